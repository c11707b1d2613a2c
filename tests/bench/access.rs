//! How long a request for access takes from end to end, beside a transaction that does nothing: `cargo bench --bench access`.
//!
//! Two hospitals, both of which endorse, one Raft orderer, blocks cut after 200 ms at the latest, all on this machine. The
//! requests are for one record of one patient, whose consent permits them. The empty transaction writes one new key and
//! emits an event; another one writes as much as a request does, a public and a private value, and reads nothing: both are
//! the tests' chaincode under the same endorsement policy, over mutual TLS as well. All take turns, so that whatever else
//! the machine does hits each of them. On the embedded ledger, and on Fabric if `EHRNET_FABRIC_BIN` names it;
//! nodes and contracts are those in the folder `EHRNET_TEST_PROGRAMS`, if it is set.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ehrnet_fabric::LedgerError;
use ehrnet_fabric::chaincode::ChaincodeDefinition;
use ehrnet_fabric::proposal::Call;
// Where `testing` looks for `identity`.
use ehrnet_fabric::gateway;
use futures::future::join_all;

#[allow(dead_code)]
#[path = "../support/chaincode.rs"]
mod chaincode;
#[allow(dead_code)]
#[path = "../support/contract.rs"]
mod contract;
#[allow(dead_code)]
#[path = "../support/network.rs"]
mod network;
#[allow(dead_code)]
#[path = "../real_fabric/nodes.rs"]
mod nodes;
#[allow(dead_code)]
#[path = "../support/programs.rs"]
mod programs;

use contract::{Cast, Contract};
use network::{CHANNEL, Network};
use nodes::{Node, Site};

/// Requests at once, and how many each of these makes in a turn.
const LOADS: [(usize, usize); 3] = [(1, 20), (16, 5), (200, 1)];
const TURNS: usize = 5;
/// Name of the chaincode that does nothing.
const EMPTY: &str = "empty";
/// About as large as what a request writes: its audit entry, and what is private of it.
const ENTRY: [usize; 2] = [700, 500];

/// Clock ticks of Linux in a second, as `/proc` counts them.
const TICKS: f64 = 100.0;

/// What some transactions took, and what became of them.
#[derive(Default)]
struct Sample {
    times: Vec<Duration>,
    busy: Duration,
    /// Ticks of processor time: the peers', the orderer's, the contracts'.
    work: [u64; 3],
    outcomes: BTreeMap<String, usize>,
}

impl Sample {
    /// `workers` at once, each of which makes `each` transactions one after the other.
    async fn take(&mut self, workers: usize, each: usize, act: impl AsyncFn() -> Result<(), LedgerError>) {
        let began = Instant::now();
        let work = (0..workers).map(|_| async {
            let mut done = Vec::with_capacity(each);
            for _ in 0..each {
                let began = Instant::now();
                let outcome = outcome(act().await);
                done.push((began.elapsed(), outcome));
            }
            done
        });
        let done = join_all(work).await;
        self.busy += began.elapsed();
        for (time, outcome) in done.into_iter().flatten() {
            self.times.push(time);
            *self.outcomes.entry(outcome).or_default() += 1;
        }
    }

    /// Milliseconds within which this part of them ended.
    fn within(&self, percent: usize) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        times[(times.len() * percent / 100).min(times.len() - 1)].as_secs_f64() * 1e3
    }

    fn per_second(&self) -> f64 {
        self.times.len() as f64 / self.busy.as_secs_f64()
    }

    /// Milliseconds of processor time for each of them.
    fn work(&self) -> [f64; 3] {
        self.work.map(|ticks| ticks as f64 / TICKS * 1e3 / self.times.len() as f64)
    }
}

/// Ticks of processor time that a process has used.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // The name of the program, in parentheses, may hold anything.
    let fields = stat.rsplit_once(") ").expect("a name").1.split(' ');
    fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("ticks")).sum()
}

/// The validation code, or why there is none.
fn outcome(answer: Result<(), LedgerError>) -> String {
    match answer {
        Ok(()) => "VALID".into(),
        Err(LedgerError::Rejected { code, .. }) => code.as_str_name().into(),
        Err(error) => error.to_string(),
    }
}

/// What is measured.
#[derive(Clone, Copy)]
enum Kind {
    /// A request for access.
    Access,
    /// A transaction that writes one key.
    Empty,
    /// A transaction that writes as much as a request.
    Written,
}

const KINDS: [Kind; 3] = [Kind::Access, Kind::Empty, Kind::Written];

/// A network with both chaincodes, and clients of them.
struct Bench {
    contracts: [Contract; 2],
    cast: Cast,
    empty: gateway::Client,
    written: AtomicUsize,
    network: Network,
}

impl Bench {
    async fn start(site: Site) -> Self {
        let network = Network::raft(site).await;
        let contracts = contract::deploy(&network).await;
        let packages = network::services(&network).await;
        let both = network::definition();
        let collections = both.collections[..1].to_vec();
        let definition = ChaincodeDefinition { name: EMPTY.into(), collections, ..both };
        network::agree(&network, &definition, &packages).await;
        let empty = network.gateway(&network.peer_b, &network.b);
        let cast = contract::permits(&network).await;
        Self { contracts, cast, empty, written: AtomicUsize::new(0), network }
    }

    async fn make(&self, kind: Kind) -> Result<(), LedgerError> {
        let key = self.written.fetch_add(1, Ordering::Relaxed).to_string();
        match kind {
            Kind::Access => self.cast.physician.try_request(Some("r1"), "TREAT").await.map(drop),
            Kind::Empty => {
                let call = Call::new(CHANNEL, EMPTY, ["put", &key, "1"].map(Into::into).into());
                self.empty.submit(&call, &[]).await.map(drop)
            }
            Kind::Written => {
                let [public, private] = ENTRY.map(|size| "x".repeat(size));
                let mut call = Call::new(CHANNEL, EMPTY, ["putBoth", "shared", &key, &public].map(Into::into).into());
                call.transient.insert("value".into(), private.into());
                self.empty.submit(&call, &[]).await.map(drop)
            }
        }
    }

    async fn measure(&self, workers: usize, each: usize) -> [Sample; 3] {
        let mut samples = <[Sample; 3]>::default();
        for turn in 0..TURNS {
            // Whoever goes first has the caches of the others: they change places.
            for place in 0..KINDS.len() {
                let at = (turn + place) % KINDS.len();
                let before = self.work();
                samples[at].take(workers, each, || self.make(KINDS[at])).await;
                let after = self.work();
                (0..3).for_each(|part| samples[at].work[part] += after[part] - before[part]);
            }
        }
        samples
    }

    /// Ticks so far of the peers, the orderer and the contracts.
    fn work(&self) -> [u64; 3] {
        let of_nodes = |nodes: &[&Node]| nodes.iter().filter_map(|node| node.pid()).map(ticks).sum();
        let Network { peer_a, peer_b, orderers, .. } = &self.network;
        let contracts = self.contracts.iter().map(|contract| ticks(contract.pid())).sum();
        [of_nodes(&[peer_a, peer_b]), of_nodes(&orderers.iter().collect::<Vec<_>>()), contracts]
    }

    fn print_memory(&self, when: &str) {
        for (hospital, contract) in ["A", "B"].into_iter().zip(&self.contracts) {
            let [all, own] = [contract.resident_in_all(), contract.resident()].map(|kib| kib as f64 * 1024.0 / 1e6);
            println!(
                "contract of {hospital} {when}: {:.2} of the goal, {all:.1} MB resident, {own:.1} MB its own",
                all / 20.0
            );
        }
    }
}

async fn bench(ledger: &str, site: Site) {
    let bench = Bench::start(site).await;
    println!("\n## {ledger}");
    bench.print_memory("before the load");
    // Connections and caches.
    for kind in KINDS {
        Sample::default().take(4, 5, || bench.make(kind)).await;
    }
    println!(
        "| at once | transaction | p50 : empty | p99 : empty | time : empty | p50, ms | p99, ms | per s | processor, ms: peers | orderer | contracts | codes |"
    );
    println!("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |");
    for (workers, each) in LOADS {
        let samples = bench.measure(workers, each).await;
        let [_, empty, _] = &samples;
        for (what, sample) in ["access", "empty", "as much written"].into_iter().zip(&samples) {
            let [p50, p99] = [50, 99].map(|percent| (sample.within(percent), empty.within(percent)));
            let rate = (sample.per_second(), empty.per_second());
            let [peers, orderer, contracts] = sample.work();
            println!(
                "| {workers} | {what} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {:.1} | {peers:.1} | {orderer:.1} | {contracts:.1} | {:?} |",
                p50.0 / p50.1,
                p99.0 / p99.1,
                rate.1 / rate.0,
                p50.0,
                p99.0,
                rate.0,
                sample.outcomes,
            );
        }
    }
    bench.print_memory("after the load");
}

#[tokio::main]
async fn main() {
    bench("Embedded ledger", Site::embedded()).await;
    match std::env::var_os("EHRNET_FABRIC_BIN") {
        Some(fabric) => bench("Fabric", Site::new(&PathBuf::from(fabric))).await,
        None => println!("\nnot on Fabric: EHRNET_FABRIC_BIN is not set"),
    }
}
