//! What is told of a flow.

use std::borrow::Cow;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::finding::Finding;
use crate::net::{Mark, Tuple};
use crate::netlink::conntrack;
use crate::text::escaped;
use crate::trace::Name;

/// The JSON Schema (draft 2020-12) of one line of JSON; it explains each field.
pub const SCHEMA: &str = include_str!("schema.json");

/// An entry of conntrack, by the names of the cluster. In JSON the fields have the names that they have here, and what is `None` is
/// left out: it is not known, or there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Flow {
    /// The version of the schema, 1.
    pub v: u32,
    /// When it was told.
    pub time: Timestamp,
    /// The node whose conntrack told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<Name>,
    /// What happened to it; none in a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Happened>,
    /// Conntrack's number for it, as long as it lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Who began it.
    pub way: Way,
    /// The request as the client sent it, where it is known to be another than conntrack has seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<Tuple>,
    /// The request as conntrack saw it.
    pub request: Tuple,
    /// The reply as conntrack expects it, where that is not just the other direction: somebody translates the flow by conntrack.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Tuple>,
    /// What stands for ports in ICMP echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_id: Option<u16>,
    /// Who began it, if the flow is to a guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The node that was called: the one with that tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entry: Option<Name>,
    /// The service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
    /// The guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest: Option<IpAddr>,
    /// All bits of its mark.
    pub ct_mark: Mark,
    /// Those of them that are the cluster's.
    pub tag: Mark,
    /// What conntrack takes it for, for protocols that have states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<Cow<'static, str>>,
    /// There was a reply.
    pub replied: bool,
    /// Conntrack would forget others before it.
    pub assured: bool,
    /// The kernel forwards its packets past all rules (flowtable).
    #[serde(default, skip_serializing_if = "is_false")]
    pub offloaded: bool,
    /// Packets in the direction of the request, where they are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<Counted>,
    /// Packets in the direction of the reply, where they are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replies: Option<Counted>,
    /// When it began, where that is written down.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<Timestamp>,
    /// Seconds since then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_s: Option<u64>,
    /// Seconds until it is forgotten, if no packet comes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u64>,
    /// Conntrack's zone, if not the usual one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<u16>,
    /// What is odd about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finding: Option<Finding>,
}

impl Flow {
    /// The same with names that may be shown, whoever has told it.
    #[must_use]
    pub fn harmless(mut self) -> Self {
        let names = [&mut self.node, &mut self.entry, &mut self.service].into_iter().flatten();
        for name in names {
            let shown = escaped(name).to_string();
            *name = shown.into();
        }
        self.state = self.state.map(|state| escaped(&state).to_string().into());
        self
    }
}

/// Who began a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Way {
    /// Somebody outside, to a guest.
    ToGuest,
    /// A guest, to somebody outside.
    FromGuest,
    /// A guest or the gateway, to a guest.
    Inside,
    /// Somebody, to a public address of the cluster, and no guest is in it.
    ToNode,
    /// No guest and no public address of the cluster is in it.
    Other,
}

/// What has happened to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Happened {
    /// It began.
    New,
    /// It goes on in another state.
    Update,
    /// It has ended.
    Destroy,
}

impl Happened {
    /// The word.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Update => "update",
            Self::Destroy => "destroy",
        }
    }
}

impl From<conntrack::Happened> for Happened {
    fn from(happened: conntrack::Happened) -> Self {
        match happened {
            conntrack::Happened::New => Self::New,
            conntrack::Happened::Update => Self::Update,
            conntrack::Happened::Destroy => Self::Destroy,
        }
    }
}

/// Packets of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// How many.
    pub packets: u64,
    /// Their bytes, with IP headers.
    pub bytes: u64,
}

impl From<conntrack::Counts> for Counted {
    fn from(conntrack::Counts { packets, bytes }: conntrack::Counts) -> Self {
        Self { packets, bytes }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(it: &bool) -> bool {
    !it
}
