//! The kernel's numbers for messages, attributes and flags (include/uapi/linux/netfilter/nf_tables.h, and
//! include/uapi/linux/netlink.h for `NLM_F_*`).

pub(super) const SUBSYSTEM: u16 = 10;
pub(super) const BATCH_BEGIN: u16 = 16;
pub(super) const BATCH_END: u16 = 17;

pub(super) const NEW_TABLE: u16 = 0;
pub(super) const GET_TABLE: u16 = 1;
pub(super) const DEL_TABLE: u16 = 2;
pub(super) const NEW_CHAIN: u16 = 3;
pub(super) const GET_CHAIN: u16 = 4;
pub(super) const DEL_CHAIN: u16 = 5;
pub(super) const NEW_RULE: u16 = 6;
pub(super) const GET_RULE: u16 = 7;
pub(super) const DEL_RULE: u16 = 8;
pub(super) const NEW_SET: u16 = 9;
pub(super) const NEW_ELEMENTS: u16 = 12;
pub(super) const GET_ELEMENTS: u16 = 13;
pub(super) const DEL_ELEMENTS: u16 = 14;
pub(super) const NEW_GENERATION: u16 = 15;
pub(super) const NEW_OBJECT: u16 = 18;
pub(super) const GET_OBJECT: u16 = 19;

pub(super) const NLM_F_REQUEST: u16 = 1;
pub(super) const NLM_F_ACK: u16 = 4;
pub(super) const NLM_F_DUMP: u16 = 0x300;
pub(super) const NLM_F_CREATE: u16 = 0x400;
pub(super) const NLM_F_APPEND: u16 = 0x800;

pub(super) const TABLE_NAME: u16 = 1;
pub(super) const TABLE_FLAGS: u16 = 2;
pub(super) const TABLE_USERDATA: u16 = 6;
pub(super) const TABLE_OWNER: u16 = 7;
pub(super) const CHAIN_TABLE: u16 = 1;
pub(super) const CHAIN_NAME: u16 = 3;
pub(super) const CHAIN_HOOK: u16 = 4;
pub(super) const CHAIN_POLICY: u16 = 5;
pub(super) const CHAIN_TYPE: u16 = 7;
pub(super) const HOOK_NUMBER: u16 = 1;
pub(super) const HOOK_PRIORITY: u16 = 2;
pub(super) const RULE_TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
pub(super) const RULE_HANDLE: u16 = 3;
pub(super) const RULE_EXPRESSIONS: u16 = 4;
pub(super) const SET_TABLE: u16 = 1;
pub(super) const SET_NAME: u16 = 2;
pub(super) const SET_FLAGS: u16 = 3;
pub(super) const SET_KEY_TYPE: u16 = 4;
pub(super) const SET_KEY_LEN: u16 = 5;
pub(super) const SET_ID: u16 = 10;
/// It belongs to a rule (`NFT_SET_ANONYMOUS`).
pub(super) const SET_ANONYMOUS: u32 = 1;
pub(super) const SET_CONSTANT: u32 = 2;
/// `NFT_SET_INTERVAL`
pub(super) const SET_INTERVALS: u32 = 4;
/// nft's own number for what the keys are, by which it lists them (`TYPE_INET_SERVICE` in its include/datatype.h).
pub(super) const TYPE_OF_PORTS: u32 = 13;
pub(super) const ELEMENTS_TABLE: u16 = 1;
pub(super) const ELEMENTS_SET: u16 = 2;
pub(super) const ELEMENTS: u16 = 3;
pub(super) const ELEMENTS_SET_ID: u16 = 4;
/// `NFTA_LIST_ELEM`
pub(super) const ELEMENT: u16 = 1;
pub(super) const ELEMENT_KEY: u16 = 1;
pub(super) const ELEMENT_FLAGS: u16 = 3;
/// The interval ends before this key (`NFT_SET_ELEM_INTERVAL_END`).
pub(super) const INTERVAL_END: u32 = 1;
/// The one expression of an element (`NFTA_SET_ELEM_EXPR`).
pub(super) const ELEMENT_EXPRESSION: u16 = 7;
pub(super) const EXPRESSION_NAME: u16 = 1;
pub(super) const EXPRESSION_DATA: u16 = 2;
/// `NFTA_DATA_VALUE`
pub(super) const VALUE: u16 = 1;
pub(super) const OBJECT_TABLE: u16 = 1;
pub(super) const OBJECT_NAME: u16 = 2;
pub(super) const OBJECT_TYPE: u16 = 3;
pub(super) const OBJECT_DATA: u16 = 4;
pub(super) const COUNTER_BYTES: u16 = 1;
pub(super) const COUNTER_PACKETS: u16 = 2;
/// `NFT_OBJECT_COUNTER`
pub(super) const COUNTER: u32 = 1;
pub(super) const GENERATION_PROCESS: u16 = 2;
pub(super) const GENERATION_NAME: u16 = 3;

/// The table's chains are at no hook (`NFT_TABLE_F_DORMANT`).
pub(super) const DORMANT: u32 = 1;
/// A policy: what comes to the end of the chain goes on (`NF_ACCEPT`, include/uapi/linux/netfilter.h).
pub(crate) const ACCEPT: u32 = 1;
/// The table belongs to the socket that made it: nobody else changes it, and it goes when the socket is closed. Since Linux
/// 5.12 (`NFT_TABLE_F_OWNER`).
pub(crate) const OWNED: u32 = 2;
/// An owned table stays when the socket is closed, and another may take it over. Since Linux 6.9 (`NFT_TABLE_F_PERSIST`).
pub(crate) const PERSISTS: u32 = 4;
