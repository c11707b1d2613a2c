//! A local port that leads to a pod's, through the API server: what `kubectl port-forward` does, in this process.

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::Api;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use ehrnet_client::Endpoint;

/// The open port; it closes with this value.
pub struct Forward {
    /// Where it is.
    pub at: Endpoint,
    task: JoinHandle<()>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Forward {
    /// Opens a port of this machine that leads to `port` of `pod`.
    ///
    /// # Errors
    /// No port of this machine is free.
    pub async fn open(client: &Client, namespace: &str, pod: String, port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let at = Endpoint::new("127.0.0.1", listener.local_addr()?.port());
        let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
        let task = tokio::spawn(async move {
            while let Ok((local, _)) = listener.accept().await {
                let (pods, pod) = (pods.clone(), pod.clone());
                tokio::spawn(async move {
                    // It ends this connection only, and its client says that it ended; this says why.
                    if let Err(problem) = lead(local, &pods, &pod, port).await {
                        eprintln!("ehrnet: forwarding to port {port} of pod {pod}: {problem}");
                    }
                });
            }
        });
        Ok(Self { at, task })
    }
}

async fn lead(
    mut local: TcpStream,
    pods: &Api<Pod>,
    pod: &str,
    port: u16,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut forwarder = pods.portforward(pod, &[port]).await?;
    let mut remote = forwarder.take_stream(port).ok_or("the API server gave no stream")?;
    copy_bidirectional(&mut local, &mut remote).await?;
    Ok(())
}
