//! What people must have been told in the end: of every deployment how it began and ended, at least
//! once, at most twice, and nothing else.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::oracle::{Row, Violation};

/// A message that arrived, as far as its body matters here.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Heard {
    /// The same whenever the message is sent.
    pub(crate) id: String,
    /// What happened.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// In which deployment.
    pub(crate) deployment: u64,
}

/// The words for ends in messages: those of the history.
const ENDS: [&str; 5] = ["succeeded", "failed", "rolled_back", "cancelled", "refused"];

/// Compares what arrived with the deployments since.
pub(crate) fn judge(rows: &[&Row], heard: &[Heard], may_be_late: bool) -> Vec<Violation> {
    let mut broken = Vec::new();
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for message in heard {
        let times = times.entry(&message.id).or_default();
        *times += 1;
        let Heard { id, kind, deployment } = message;
        if *times == 3 {
            broken.push(Violation::new("told twice at most", format!("message {id} arrived three times")));
        }
        let kind = kind.trim_start_matches("deployment.");
        let row = rows.iter().find(|row| row.id == *deployment);
        let is_so = match row {
            Some(row) => !ENDS.contains(&kind) || row.outcome.as_deref() == Some(kind),
            None => false,
        };
        if !is_so {
            let outcome = row.and_then(|row| row.outcome.as_deref());
            let what = format!("deployment {deployment} is said to be `{kind}`, but is {outcome:?}");
            broken.push(Violation::new("told the truth", what));
        }
    }
    for row in rows.iter().filter(|_| !may_be_late) {
        for kind in ["started"].into_iter().chain(row.outcome.as_deref()) {
            let is_it = |it: &Heard| it.deployment == row.id && it.kind == format!("deployment.{kind}");
            if !heard.iter().any(is_it) {
                let what = format!("nobody heard that deployment {} is `{kind}`", row.id);
                broken.push(Violation::new("told at all", what));
            }
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(deployment: u64, kind: &str) -> Heard {
        Heard { id: format!("{deployment}-{kind}"), kind: format!("deployment.{kind}"), deployment }
    }

    fn rules(heard: &[Heard], may_be_late: bool) -> Vec<&'static str> {
        let row = Row { id: 2, release: 2, revision: "b".to_owned(), outcome: Some("succeeded".to_owned()) };
        judge(&[&row], heard, may_be_late).into_iter().map(|it| it.rule).collect()
    }

    #[test]
    fn everything_arrives_once_or_twice() {
        let [started, ended] = ["started", "succeeded"].map(|kind| heard(2, kind));
        let once = [started.clone(), ended.clone()];
        assert_eq!(rules(&once, false), Vec::<&str>::new());
        let again = |times| [vec![started.clone()], vec![ended.clone(); times]].concat();
        assert_eq!(rules(&again(2), false), Vec::<&str>::new());
        assert_eq!(rules(&again(3), false), ["told twice at most"]);
        assert_eq!(rules(&again(5), true), ["told twice at most"]);
        assert_eq!(rules(&again(0), false), ["told at all"]);
        assert_eq!(rules(&again(0), true), Vec::<&str>::new());
        assert_eq!(rules(&[], false), ["told at all", "told at all"]);
    }

    #[test]
    fn what_arrives_is_so() {
        let more = |message| [heard(2, "started"), heard(2, "succeeded"), message];
        assert_eq!(rules(&more(heard(2, "cancelled")), false), ["told the truth"]);
        assert_eq!(rules(&more(heard(1, "succeeded")), false), ["told the truth"], "long told");
        assert_eq!(rules(&more(heard(2, "quarantined")), false), Vec::<&str>::new());
    }
}
