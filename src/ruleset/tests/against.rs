//! Two rulesets held against each other.

/// What a text has otherwise than another: lines that are gone (-) and new (+), each under the chain that it stands in. So the change
/// of one rule that several rulesets have changes the snapshot of one, and of those whose own rule it is.
pub(super) fn against(base: &str, text: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (base.lines().collect(), text.lines().collect());
    // The longest common subsequence of what follows two places.
    let mut common = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for (i, a) in old.iter().enumerate().rev() {
        for (j, b) in new.iter().enumerate().rev() {
            common[i][j] =
                if a == b { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut chain, mut shown, mut out) = (0, 0, "", "", String::new());
    while i < old.len() || j < new.len() {
        let line = new.get(j).or(old.get(i)).copied().unwrap_or_default();
        if line.trim_start().starts_with("chain ") || line.starts_with("table ") || line.starts_with('*') {
            chain = line;
        }
        if i < old.len() && j < new.len() && old[i] == new[j] {
            (i, j) = (i + 1, j + 1);
            continue;
        }
        if chain != shown {
            out.push_str(&format!("@ {}\n", chain.trim()));
            shown = chain;
        }
        if i < old.len() && (j == new.len() || common[i + 1][j] >= common[i][j + 1]) {
            out.push_str(&format!("-{}\n", old[i]));
            i += 1;
        } else {
            out.push_str(&format!("+{}\n", new[j]));
            j += 1;
        }
    }
    out
}

#[test]
fn what_differs_is_shown_and_nothing_else() {
    let base = "table ip x\n\tchain a {\n\t\tone\n\t\ttwo\n\t}\n\tchain b {\n\t\tthree\n\t}\n";
    assert_eq!(against(base, base), "");
    let text = base.replace("two", "2").replace("three", "three\n\t\tfour");
    assert_eq!(against(base, &text), "@ chain a {\n-\t\ttwo\n+\t\t2\n@ chain b {\n+\t\tfour\n");
}
