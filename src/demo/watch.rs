//! Follows every kind of the project in one namespace until what was applied is ready, and shows it.
//!
//! On a terminal the table is redrawn in place at each change and once a second (for the clock); elsewhere each change
//! is a line.

use std::io::{IsTerminal, Stdout, Write};
use std::time::{Duration, Instant};

use futures::stream::{BoxStream, SelectAll, StreamExt, select_all};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, ResourceExt};
use tokio::time::{MissedTickBehavior, interval, timeout_at};

use super::DemoError;
use super::install::SYSTEM_NAMESPACE;
use super::table::{Key, State, Table, change, elapsed};
use ehrnet_api::Kind;
use ehrnet_api::conditions::READY;

/// What an event is about: the word shown for the kind, the condition that says whether it is well, the event itself.
type Watched = (String, &'static str, watcher::Result<Event<DynamicObject>>);

/// Returns when all of `expected` are ready, or with an error after `limit`.
pub(super) async fn until_ready(
    client: &Client,
    namespace: &str,
    expected: Vec<Key>,
    began: Instant,
    limit: Duration,
) -> Result<(), DemoError> {
    let mut table = Table::new(expected);
    let mut screen = Screen::new(began);
    let mut events = watch_all(client, namespace);
    let mut clock = interval(Duration::from_secs(1));
    clock.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let follow = async {
        while !table.unready().is_empty() {
            tokio::select! {
                Some(watched) = events.next() => screen.take(&mut table, watched)?,
                _ = clock.tick() => screen.draw(&table)?,
            }
        }
        screen.draw(&table)
    };
    match timeout_at((began + limit).into(), follow).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(DemoError::NotReady { after: limit, unready: table.unready() }),
    }
}

/// One watch per kind that the project defines, and one of the operator's Deployment, merged.
fn watch_all(client: &Client, namespace: &str) -> SelectAll<BoxStream<'static, Watched>> {
    let resources = Kind::ALL.iter().map(|kind| {
        watch(Api::namespaced_with(client.clone(), namespace, &kind.resource()), kind.as_str().into(), READY)
    });
    let deployments = ApiResource::erase::<Deployment>(&());
    let operator =
        watch(Api::namespaced_with(client.clone(), SYSTEM_NAMESPACE, &deployments), "Operator".into(), "Available");
    select_all(resources.chain([operator]))
}

fn watch(api: Api<DynamicObject>, kind: String, condition: &'static str) -> BoxStream<'static, Watched> {
    let events = watcher(api, watcher::Config::default()).default_backoff();
    events.map(move |event| (kind.clone(), condition, event)).boxed()
}

/// Where the table is shown.
struct Screen {
    out: Stdout,
    began: Instant,
    in_place: bool,
    /// Lines on the terminal that the next drawing replaces.
    drawn: usize,
    /// What went wrong with a watch last, until an event comes again.
    problem: Option<String>,
}

impl Screen {
    fn new(began: Instant) -> Self {
        let out = std::io::stdout();
        let in_place = out.is_terminal();
        Self { out, began, in_place, drawn: 0, problem: None }
    }

    /// Takes in an event and shows it if it is news.
    fn take(&mut self, table: &mut Table, (kind, condition, event): Watched) -> std::io::Result<()> {
        let (key, state) = match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => {
                (Key { kind, name: object.name_any() }, Some(State::of(&object, condition)))
            }
            Ok(Event::Delete(object)) => (Key { kind, name: object.name_any() }, None),
            Ok(Event::Init | Event::InitDone) => return Ok(()),
            Err(error) => return self.report(table, format!("watching {kind}: {error}")),
        };
        self.problem = None;
        let news = match &state {
            Some(state) => table.note(key.clone(), state.clone()),
            None => table.forget(&key),
        };
        match (news, self.in_place) {
            (false, _) => Ok(()),
            (true, true) => self.draw(table),
            (true, false) => writeln!(self.out, "{}", change(self.began.elapsed(), &key, state.as_ref())),
        }
    }

    /// Shows that a watch fails; it is retried.
    fn report(&mut self, table: &Table, problem: String) -> std::io::Result<()> {
        if self.problem.as_ref() == Some(&problem) {
            return Ok(());
        }
        if !self.in_place {
            writeln!(self.out, "{problem}")?;
        }
        self.problem = Some(problem);
        self.draw(table)
    }

    fn draw(&mut self, table: &Table) -> std::io::Result<()> {
        if !self.in_place {
            return Ok(());
        }
        let mut lines = table.lines();
        lines.push(format!("{} waiting for {}", elapsed(self.began.elapsed()), table.unready().len()));
        lines.extend(self.problem.clone());
        // Up to the first line, clear to the end of the screen, and no wrapping: a line stays a line.
        let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
        write!(self.out, "{up}\r\x1b[J\x1b[?7l{}\n\x1b[?7h", lines.join("\n"))?;
        self.drawn = lines.len();
        self.out.flush()
    }
}
