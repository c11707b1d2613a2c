//! Whether a channel can do without one of its consenters. Pure: who is a consenter, and how each of them is, was asked
//! before ([`consenters`](super::consenters)).

use super::consenters::{Consenter, Consenters, Standing};

/// How many of `n` consenters must work (Raft: a majority; BFT: ceil((n + f + 1) / 2) with f = (n - 1) / 3).
pub fn needed(is_bft: bool, n: usize) -> usize {
    if is_bft { (n + n.saturating_sub(1) / 3 + 1).div_ceil(2) } else { n / 2 + 1 }
}

/// Why a channel cannot do without the consenter of that name, in one sentence; `None` if it can, or if it is no consenter.
pub fn needs(consenters: &Consenters, name: &str) -> Option<String> {
    let (own, others): (Vec<_>, Vec<_>) = consenters.all.iter().partition(|consenter| consenter.name == name);
    if own.is_empty() {
        return None;
    }
    let needed = needed(consenters.is_bft, consenters.all.len());
    let well = others.iter().filter(|consenter| consenter.standing == Standing::Well).count();
    (well < needed).then(|| {
        format!(
            "Channel {} needs {needed} of its {} consenters and would have {well} without this one{}",
            consenters.channel,
            consenters.all.len(),
            ill(&others)
        )
    })
}

/// Why a consenter of that name cannot be restarted now; `None` if it can. While all others are well there will be no better
/// moment: a channel of one or two consenters pauses whenever one of them is restarted.
pub fn needs_now(consenters: &Consenters, name: &str) -> Option<String> {
    let mut others = consenters.all.iter().filter(|consenter| consenter.name != name);
    if others.all(|consenter| consenter.standing == Standing::Well) { None } else { needs(consenters, name) }
}

/// What is the matter with those that do not count, in brackets.
fn ill(others: &[&Consenter]) -> String {
    let ill = others.iter().filter_map(|consenter| match &consenter.standing {
        Standing::Well => None,
        Standing::Ill(why) => Some(format!("{} {why}", consenter.name)),
    });
    let ill: Vec<String> = ill.collect();
    if ill.is_empty() { String::new() } else { format!(" ({})", ill.join("; ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consenters(is_bft: bool, standings: &[bool]) -> Consenters {
        let standing = |well| if well { Standing::Well } else { Standing::Ill("does not answer".to_owned()) };
        let all = (1..).zip(standings).map(|(n, well)| Consenter { name: format!("o-{n}"), standing: standing(*well) });
        Consenters { channel: "care".into(), is_bft, all: all.collect() }
    }

    #[test]
    fn a_quorum_of_raft_is_a_majority_and_one_of_bft_outvotes_the_faulty() {
        assert_eq!((1..=7).map(|n| needed(false, n)).collect::<Vec<_>>(), [1, 2, 2, 3, 3, 4, 4]);
        assert_eq!([1, 4, 5, 6, 7, 10].map(|n| needed(true, n)), [1, 3, 4, 4, 5, 7]);
    }

    #[test]
    fn one_of_three_may_go_and_a_second_may_not() {
        assert_eq!(needs(&consenters(false, &[true, true, true]), "o-1"), None);
        let why = needs(&consenters(false, &[true, true, false]), "o-1").expect("a reason");
        assert_eq!(
            why,
            "Channel care needs 2 of its 3 consenters and would have 1 without this one (o-3 does not answer)"
        );
    }

    #[test]
    fn one_that_is_down_already_may_go_while_the_others_are_well() {
        assert_eq!(needs(&consenters(false, &[true, true, false]), "o-3"), None);
    }

    #[test]
    fn the_last_consenter_never_goes() {
        assert!(needs(&consenters(false, &[true]), "o-1").is_some());
        assert!(needs(&consenters(true, &[true, true, true, false]), "o-1").is_some());
    }

    #[test]
    fn a_restart_waits_for_others_that_can_come_back_and_for_nothing_else() {
        assert_eq!(needs_now(&consenters(false, &[true]), "o-1"), None, "there is nobody to wait for");
        assert_eq!(needs_now(&consenters(false, &[true, true]), "o-1"), None);
        assert!(needs_now(&consenters(false, &[true, false]), "o-1").is_some());
        assert!(needs_now(&consenters(false, &[true, true, false]), "o-1").is_some());
        assert_eq!(needs_now(&consenters(false, &[true, true, false]), "o-3"), None);
    }

    #[test]
    fn who_is_no_consenter_costs_nothing() {
        assert_eq!(needs(&consenters(false, &[false, false, false]), "o-9"), None);
    }
}
