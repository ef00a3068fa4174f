//! Rules are tried where nobody sees them.

use std::io;

use super::error::InstallError;
use crate::kernel::in_scratch_namespace;
use crate::kernel::tool::{self, Tool};

/// Whether nft and the kernel take such rules: they are loaded in a network namespace that is thrown away. In the namespace of
/// a node even `nft --check` would drop every packet that waits in a queue, because it registers hooks.
///
/// # Errors
/// There is no right to make a network namespace, so it could not be tried. Inside, what nft said.
pub fn try_in_scratch(rules: String) -> io::Result<Result<(), InstallError>> {
    let tried = in_scratch_namespace(move || tool::feed(Tool::Nft, &["-f", "-"], &rules))?;
    Ok(tried.map(|_| ()).map_err(InstallError::from))
}
