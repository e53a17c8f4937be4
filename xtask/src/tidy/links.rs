//! Links between documents lead somewhere.

use crate::finding::Finding;

/// Checks every relative link of a Markdown document; `exists` is asked for paths relative to the
/// root of the repository.
pub(crate) fn check(path: &str, text: &str, exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut findings = Vec::new();
    let mut fenced = false;
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for target in targets(line) {
            let file = target.split('#').next().unwrap_or_default();
            let elsewhere = file.contains(':');
            if !file.is_empty() && !elsewhere && !resolve(folder, file).is_some_and(|path| exists(&path)) {
                findings.push(Finding::new(path, number, format!("the link to `{target}` leads nowhere")));
            }
        }
    }
    findings
}

/// Returns what the inline links and reference definitions of a line point to.
///
/// Source: <https://spec.commonmark.org/0.31.2/#links>
fn targets(line: &str) -> Vec<&str> {
    // Every second piece stands between backticks.
    let prose = line.split('`').step_by(2);
    let inline =
        prose.flat_map(|piece| piece.split("](").skip(1)).filter_map(|rest| rest.split([')', ' ']).next());
    let definition =
        line.starts_with('[').then(|| line.split_once("]: ")).flatten().map(|(_, target)| target.trim());
    inline.chain(definition).collect()
}

/// Joins a folder and a relative path; `None` when that leaves the repository.
fn resolve(folder: &str, file: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in file.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let there = ["docs/guide/start.md", "README.md", "docs"];
        check("docs/guide/first.md", text, |path| there.contains(&path))
            .into_iter()
            .map(|f| f.to_string())
            .collect()
    }

    #[test]
    fn links_that_lead_somewhere_pass() {
        assert!(
            found("[a](start.md) [b](../../README.md#why) [c](https://x.y/z) [d](#top) [e](..)").is_empty()
        );
        assert!(found("`[a](gone.md)`\n```\n[a](gone.md)\n```\n").is_empty());
    }

    #[test]
    fn links_that_lead_nowhere_are_named() {
        assert_eq!(found("x\n[a](gone.md)"), ["docs/guide/first.md:2: the link to `gone.md` leads nowhere"]);
        assert_eq!(found("[a]: gone.md").len(), 1);
        assert_eq!(found("[a](../../../outside.md)").len(), 1);
        assert_eq!(found("[a](start.md) and [`code`](gone.md)").len(), 1);
    }
}
