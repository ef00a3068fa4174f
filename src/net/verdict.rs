use std::fmt;
use std::str::FromStr;

/// What becomes of a packet, of the verdicts that netfilter knows (include/uapi/linux/netfilter.h).
///
/// ```
/// use dunnat::engine::{Decision, Reason};
/// use dunnat::net::Verdict;
///
/// assert_eq!(Decision::drop(Reason::Cut).verdict, Verdict::Drop);
/// assert_eq!(Verdict::Accept.to_string(), "accept");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// `NF_ACCEPT`: it goes on its way, changed as decided.
    Accept,
    /// `NF_DROP`: it ends here.
    Drop,
}

/// Why a text is not a verdict.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a verdict is one of accept, drop")]
pub struct VerdictError;

impl FromStr for Verdict {
    type Err = VerdictError;

    fn from_str(text: &str) -> Result<Self, VerdictError> {
        match text {
            "accept" => Ok(Self::Accept),
            "drop" => Ok(Self::Drop),
            _ => Err(VerdictError),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
        })
    }
}
