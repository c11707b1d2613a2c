//! Whether what a transaction read still holds (Fabric: `txmgmt/validation/validator.go`).
//!
//! Judged against the state as the valid transactions before it, of earlier blocks and of its own, have left it.

use crate::peer::rwset::RwSet;
use crate::peer::rwset::merkle::Reads;
use crate::peer::state::updates::Updates;
use crate::peer::state::world::State;
use crate::peer::state::{Collection, Version};
use ehrnet_fabric::proto::kvrwset::range_query_info::ReadsInfo;
use ehrnet_fabric::proto::kvrwset::{KvRead, RangeQueryInfo};
use ehrnet_fabric::proto::protos::TxValidationCode as Code;

/// Judge a transaction's reads.
///
/// # Errors
/// Fabric's verdict.
pub fn check(set: &RwSet, state: &State, updates: &Updates) -> Result<(), Code> {
    for namespace in &set.namespaces {
        let name = namespace.name.as_str();
        let fresh = |read: &KvRead| {
            let committed = state.get(name, &read.key).map(|entry| entry.version);
            !updates.touches(name, &read.key) && committed == read.version.as_ref().map(Version::of_proto)
        };
        if !namespace.kv.reads.iter().all(fresh) {
            return Err(Code::MvccReadConflict);
        }
        if !namespace.kv.range_queries_info.iter().all(|query| same_results(query, name, state, updates)) {
            return Err(Code::PhantomReadConflict);
        }
        for hashed in &namespace.collections {
            let collection: Collection = (namespace.name.clone(), hashed.name.clone());
            let fresh = hashed.set.hashed_reads.iter().all(|read| {
                let committed = state.hashed(&collection, &read.key_hash).map(|entry| entry.version);
                !updates.touches_hash(&collection, &read.key_hash)
                    && committed == read.version.as_ref().map(Version::of_proto)
            });
            if !fresh {
                return Err(Code::MvccReadConflict);
            }
        }
    }
    Ok(())
}

/// Whether a range query would give the same results now. One that was not read to its end ends with the last key seen,
/// which then belongs to it.
fn same_results(query: &RangeQueryInfo, namespace: &str, state: &State, updates: &Updates) -> bool {
    let last = (!query.itr_exhausted).then_some(query.end_key.as_str());
    let end = if query.itr_exhausted { query.end_key.as_str() } else { "" };
    let within = |key: &str| match last {
        Some(last) => key <= last,
        None => end.is_empty() || key < end,
    };
    let degree = match &query.reads_info {
        Some(ReadsInfo::ReadsMerkleHashes(summary)) => usize::try_from(summary.max_degree).unwrap_or(usize::MAX),
        // Nothing is hashed.
        _ => usize::MAX,
    };
    let mut now = Reads::new(degree);
    let committed = state.range(namespace, &query.start_key, end).take_while(|(key, _)| within(key));
    let mut changed = updates
        .of_namespace(namespace)
        .filter(|(key, _)| key.as_str() >= query.start_key.as_str() && within(key))
        .peekable();
    let mut committed = committed.peekable();
    loop {
        // Both are in order; a change hides the committed value of its key.
        let change_first = match (committed.peek(), changed.peek()) {
            (None, None) => break,
            (None, Some(_)) => true,
            (Some(_), None) => false,
            (Some((old, _)), Some((new, _))) => new <= old,
        };
        let (key, version) = if change_first {
            let Some((key, change)) = changed.next() else { break };
            if committed.peek().is_some_and(|(old, _)| *old == key) {
                committed.next();
            }
            if change.entry.is_none() {
                continue;
            }
            (key, change.version)
        } else {
            let Some((key, entry)) = committed.next() else { break };
            (key, entry.version)
        };
        now.push(KvRead { key: key.clone(), version: Some(version.to_proto()) });
    }
    let seen = match &query.reads_info {
        Some(ReadsInfo::RawReads(reads)) if reads.kv_reads.is_empty() => None,
        other => other.clone(),
    };
    now.finish() == seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::rwset::builder::Builder;
    use crate::peer::rwset::testing::{set, write};
    use crate::peer::simulate::simulator::Simulator;
    use prost::Message;

    const BEFORE: Version = Version { block: 1, tx: 0 };
    const NOW: Version = Version { block: 2, tx: 0 };

    fn state(keys: &[&str]) -> State {
        let mut state = State::default();
        state.apply(&updates(&keys.iter().map(|key| (*key, "value")).collect::<Vec<_>>(), BEFORE));
        state
    }

    fn updates(writes: &[(&str, &str)], version: Version) -> Updates {
        let mut updates = Updates::default();
        let writes: Vec<_> = writes.iter().map(|(key, value)| write(key, value)).collect();
        updates.add(&set("cc", &writes, &[]), version, &State::default());
        updates
    }

    fn simulate(state: &State, act: impl FnOnce(&mut Simulator)) -> RwSet {
        let mut simulator = Simulator::new("ch", "tx", vec![], state.clone());
        act(&mut simulator);
        RwSet::decode(&simulator.finish().results.public.encode_to_vec()).expect("readable")
    }

    fn read_range(state: &State, start: &str, end: &str, results: usize) -> RwSet {
        simulate(state, |simulator| {
            let handle = simulator.open_range("cc", start, end, None).expect("query");
            (0..results).for_each(|_| drop(simulator.next_in_range(handle)));
        })
    }

    #[test]
    fn a_read_is_stale_once_its_key_was_written_in_this_or_an_earlier_block() {
        let old = state(&["a"]);
        let read = simulate(&old, |simulator| drop(simulator.get("cc", "a")));
        assert_eq!(check(&read, &old, &Updates::default()), Ok(()));
        assert_eq!(check(&read, &old, &updates(&[("b", "1")], NOW)), Ok(()));
        assert_eq!(check(&read, &old, &updates(&[("a", "2")], NOW)), Err(Code::MvccReadConflict));
        let mut new = old.clone();
        new.apply(&updates(&[("a", "2")], NOW));
        assert_eq!(check(&read, &new, &Updates::default()), Err(Code::MvccReadConflict));
    }

    #[test]
    fn a_key_read_as_absent_must_stay_absent() {
        let old = state(&[]);
        let read = simulate(&old, |simulator| drop(simulator.get("cc", "a")));
        assert_eq!(check(&read, &old, &Updates::default()), Ok(()));
        assert_eq!(check(&read, &state(&["a"]), &Updates::default()), Err(Code::MvccReadConflict));
    }

    #[test]
    fn a_range_is_repeated_with_what_came_between() {
        let old = state(&["a", "b", "d"]);
        let read = read_range(&old, "a", "z", 9);
        assert_eq!(check(&read, &old, &updates(&[("zz", "1")], NOW)), Ok(()));
        for write in [("c", "1"), ("b", "2"), ("b", ""), ("e", "1")] {
            assert_eq!(check(&read, &old, &updates(&[write], NOW)), Err(Code::PhantomReadConflict), "{write:?}");
        }
        // A deletion of what is not there changes nothing.
        assert_eq!(check(&read, &old, &updates(&[("c", "")], NOW)), Ok(()));
    }

    #[test]
    fn a_range_left_early_ends_with_the_last_key_seen() {
        let old = state(&["a", "b", "d"]);
        let read = read_range(&old, "a", "z", 2);
        assert_eq!(check(&read, &old, &updates(&[("c", "1"), ("d", "2")], NOW)), Ok(()));
        assert_eq!(check(&read, &old, &updates(&[("b", "2")], NOW)), Err(Code::PhantomReadConflict));
        assert_eq!(check(&read, &old, &updates(&[("aa", "2")], NOW)), Err(Code::PhantomReadConflict));
    }

    #[test]
    fn hashed_results_are_compared_like_raw_ones() {
        let keys: Vec<String> = (0..300).map(|n| format!("k{n:03}")).collect();
        let old = state(&keys.iter().map(String::as_str).collect::<Vec<_>>());
        let read = read_range(&old, "k", "l", 301);
        let reads = &read.namespaces[0].kv.range_queries_info[0].reads_info;
        assert!(matches!(reads, Some(ReadsInfo::ReadsMerkleHashes(_))), "{reads:?}");
        assert_eq!(check(&read, &old, &Updates::default()), Ok(()));
        assert_eq!(check(&read, &old, &updates(&[("k299", "2")], NOW)), Err(Code::PhantomReadConflict));
    }

    #[test]
    fn private_reads_are_judged_by_their_hashes() {
        let collection: Collection = ("cc".into(), "secrets".into());
        let mut builder = Builder::default();
        builder.read_hash(&collection, "k", None);
        let read = RwSet::decode(&builder.finish().public.encode_to_vec()).expect("readable");
        let mut writer = Builder::default();
        writer.write_private(&collection, "k", b"1", false);
        let write = RwSet::decode(&writer.finish().public.encode_to_vec()).expect("readable");
        let mut updates = Updates::default();
        assert_eq!(check(&read, &State::default(), &updates), Ok(()));
        updates.add(&write, NOW, &State::default());
        assert_eq!(check(&read, &State::default(), &updates), Err(Code::MvccReadConflict));
    }
}
