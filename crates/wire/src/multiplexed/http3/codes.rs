//! Error codes of HTTP/3 and QPACK (RFC 9114 section 8.1, RFC 9204 section 6).

use quinn::VarInt;

/// Why a stream is reset or a connection closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(u32);

impl Code {
    pub(super) const NO_ERROR: Code = Code(0x100);
    pub(super) const INTERNAL_ERROR: Code = Code(0x102);
    pub(super) const STREAM_CREATION_ERROR: Code = Code(0x103);
    pub(super) const CLOSED_CRITICAL_STREAM: Code = Code(0x104);
    pub(super) const FRAME_UNEXPECTED: Code = Code(0x105);
    pub(super) const FRAME_ERROR: Code = Code(0x106);
    pub(super) const EXCESSIVE_LOAD: Code = Code(0x107);
    pub(super) const ID_ERROR: Code = Code(0x108);
    pub(super) const SETTINGS_ERROR: Code = Code(0x109);
    pub(super) const MISSING_SETTINGS: Code = Code(0x10a);
    pub(super) const REQUEST_REJECTED: Code = Code(0x10b);
    pub(super) const REQUEST_INCOMPLETE: Code = Code(0x10d);
    pub(super) const MESSAGE_ERROR: Code = Code(0x10e);
    pub(super) const QPACK_DECOMPRESSION_FAILED: Code = Code(0x200);
    pub(super) const QPACK_ENCODER_STREAM_ERROR: Code = Code(0x201);
}

impl From<Code> for VarInt {
    fn from(code: Code) -> Self {
        VarInt::from_u32(code.0)
    }
}
