//! Files, by Landlock: none, or those below some directories.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, LandlockStatus, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::Applied;

/// What this program was tried with. An older kernel limits what it knows of; what a newer one knows more is not limited.
const TRIED: ABI = ABI::V7;

/// The versions up to that one.
const VERSIONS: [ABI; 7] = [ABI::V1, ABI::V2, ABI::V3, ABI::V4, ABI::V5, ABI::V6, TRIED];

/// From now on this thread, and all that it starts, opens nothing but what is below these paths. Also, it connects to no TCP
/// port, listens on none, and sends no signal to another process; as far as the kernel can.
pub(super) fn limit(read: &[&Path], write: &[&Path], applied: &mut Applied) {
    let lack = match restrict(read, write) {
        Ok(Limited::By(version)) => {
            applied.landlock = Some(version);
            return;
        }
        Ok(Limited::Not(why)) => why.to_owned(),
        Err(error) => error.to_string(),
    };
    applied.lacks.push(format!("files are not out of reach ({lack})"));
}

enum Limited {
    By(u64),
    Not(&'static str),
}

fn restrict(read: &[&Path], write: &[&Path]) -> Result<Limited, RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(TRIED))?
        .handle_access(AccessNet::from_all(TRIED))?
        .scope(Scope::from_all(TRIED))?
        .create()?
        .add_rules(path_beneath_rules(read, AccessFs::ReadFile | AccessFs::ReadDir))?
        .add_rules(path_beneath_rules(write, AccessFs::from_all(TRIED) & !AccessFs::Execute))?
        .restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (_, LandlockStatus::NotEnabled) => Limited::Not("Landlock is not enabled: see lsm= of the kernel"),
        (_, LandlockStatus::NotImplemented) => Limited::Not("this kernel has no Landlock"),
        (RulesetStatus::NotEnforced, _) => Limited::Not("Landlock limits nothing"),
        (_, LandlockStatus::Available { effective_abi, .. }) => {
            Limited::By(VERSIONS.iter().filter(|version| **version <= effective_abi).count() as u64)
        }
    })
}
