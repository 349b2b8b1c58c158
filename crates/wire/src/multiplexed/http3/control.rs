//! The streams that go one way (RFC 9114 section 6.2): control, and those of QPACK.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use quinn::{Connection, RecvStream, SendStream};
use tokio::task::JoinSet;

use super::codes::Code;
use super::frames::{self, Frame, Frames, On, put_head, put_varint, varint};
use crate::multiplexed::HEADER_LIST;

const CONTROL: u64 = 0x0;
const PUSH: u64 = 0x1;
const ENCODER: u64 = 0x2;
const DECODER: u64 = 0x3;

const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
/// WebSockets (RFC 9220).
const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;

/// Bytes taken out of a stream at once.
const PIECE: usize = 4096;

/// How long our few bytes on the control stream may wait for a client that gives them no room.
const PATIENCE: Duration = Duration::from_secs(5);

/// Our own control stream.
pub(super) struct Control(SendStream);

impl Control {
    /// Opens it and says how we speak. None when the connection ended or the client leaves no room for it.
    pub(super) async fn open(connection: &Connection) -> Option<Self> {
        let mut payload = Vec::new();
        for (setting, value) in [(MAX_FIELD_SECTION_SIZE, u64::from(HEADER_LIST)), (ENABLE_CONNECT_PROTOCOL, 1)] {
            put_varint(&mut payload, setting);
            put_varint(&mut payload, value);
        }
        let stream = tokio::time::timeout(PATIENCE, connection.open_uni()).await.ok()?.ok()?;
        let mut control = Self(stream);
        let mut bytes = vec![CONTROL as u8];
        put_head(&mut bytes, frames::SETTINGS, payload.len());
        bytes.extend_from_slice(&payload);
        control.send(&bytes).await?;
        Some(control)
    }

    /// Says that no request is served whose stream has this number or a higher one.
    pub(super) async fn go_away(&mut self, stream: u64) -> Option<()> {
        let (mut payload, mut bytes) = (Vec::new(), Vec::new());
        put_varint(&mut payload, stream);
        put_head(&mut bytes, frames::GOAWAY, payload.len());
        bytes.extend_from_slice(&payload);
        self.send(&bytes).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Option<()> {
        tokio::time::timeout(PATIENCE, self.0.write_all(bytes)).await.ok()?.ok()
    }
}

/// Hears the client's streams until the connection ends, which it brings about where the client breaks the rules.
pub(super) async fn hear(connection: Connection) {
    // As many as the client may open.
    let mut streams = JoinSet::new();
    let seen = Rc::new(Cell::new(0));
    loop {
        tokio::select! {
            opened = connection.accept_uni() => {
                let Ok(stream) = opened else { return };
                let (connection, seen) = (connection.clone(), seen.clone());
                streams.spawn_local(async move {
                    let reader = Reader { stream, input: Bytes::new() };
                    if let Err(code) = hear_one(reader, &seen).await {
                        connection.close(code.into(), b"");
                    }
                });
            }
            Some(_) = streams.join_next() => {}
        }
    }
}

/// `seen` has a bit for each kind of stream that there may be one of.
async fn hear_one(mut reader: Reader, seen: &Cell<u8>) -> Result<(), Code> {
    // A stream may end before it says what it is.
    let Some(kind) = reader.kind().await else { return Ok(()) };
    match kind {
        CONTROL | ENCODER | DECODER => {
            let before = seen.get();
            seen.set(before | 1 << kind);
            if before & 1 << kind != 0 {
                return Err(Code::STREAM_CREATION_ERROR);
            }
        }
        // Clients push nothing.
        PUSH => return Err(Code::STREAM_CREATION_ERROR),
        _ => {
            // Whatever it is, it does no harm.
            let _ = reader.stream.stop(Code::STREAM_CREATION_ERROR.into());
            return Ok(());
        }
    }
    match kind {
        CONTROL => control(reader).await,
        ENCODER => encoder(reader).await,
        _ => {
            // What was done with sections of ours: they need nothing of the client's table.
            while reader.more().await? {
                reader.input.clear();
            }
            Err(Code::CLOSED_CRITICAL_STREAM)
        }
    }
}

async fn control(mut reader: Reader) -> Result<(), Code> {
    let mut frames = Frames::new(On::Control);
    let mut settled = false;
    let (mut leaving, mut pushes) = (None, None);
    loop {
        while let Some(frame) = frames.next(&mut reader.input)? {
            let Frame::Control(kind, payload) = frame else { return Err(Code::FRAME_UNEXPECTED) };
            match kind {
                frames::SETTINGS if settled => return Err(Code::FRAME_UNEXPECTED),
                frames::SETTINGS => {
                    settings(&payload)?;
                    settled = true;
                }
                _ if !settled => return Err(Code::MISSING_SETTINGS),
                // Both may only go one way, and neither has a meaning without pushes.
                frames::GOAWAY => {
                    let id = only_number(&payload)?;
                    if leaving.replace(id).is_some_and(|before| before < id) {
                        return Err(Code::ID_ERROR);
                    }
                }
                frames::MAX_PUSH_ID => {
                    let id = only_number(&payload)?;
                    if pushes.replace(id).is_some_and(|before| before > id) {
                        return Err(Code::ID_ERROR);
                    }
                }
                // Of a push that never was.
                _ => return Err(Code::ID_ERROR),
            }
        }
        if !reader.more().await? {
            return Err(Code::CLOSED_CRITICAL_STREAM);
        }
    }
}

/// What a client says of itself is of no use to us, but has to be well-formed (section 7.2.4).
fn settings(mut payload: &[u8]) -> Result<(), Code> {
    let mut seen = Vec::new();
    while !payload.is_empty() {
        let (setting, read) = varint(payload).ok_or(Code::FRAME_ERROR)?;
        let (_, more) = varint(&payload[read..]).ok_or(Code::FRAME_ERROR)?;
        payload = &payload[read + more..];
        // 0x2 to 0x5 were settings of HTTP/2.
        if seen.contains(&setting) || matches!(setting, 0x2..=0x5) {
            return Err(Code::SETTINGS_ERROR);
        }
        seen.push(setting);
    }
    Ok(())
}

fn only_number(payload: &[u8]) -> Result<u64, Code> {
    varint(payload).filter(|(_, read)| *read == payload.len()).map(|(number, _)| number).ok_or(Code::FRAME_ERROR)
}

/// Our table has no room: the one instruction that can be is that it stays so.
async fn encoder(mut reader: Reader) -> Result<(), Code> {
    const CAPACITY_ZERO: u8 = 0b0010_0000;
    while reader.more().await? {
        if reader.input.iter().any(|byte| *byte != CAPACITY_ZERO) {
            return Err(Code::QPACK_ENCODER_STREAM_ERROR);
        }
        reader.input.clear();
    }
    Err(Code::CLOSED_CRITICAL_STREAM)
}

struct Reader {
    stream: RecvStream,
    input: Bytes,
}

impl Reader {
    /// Reads on when all that came was used. False at the stream's end.
    async fn more(&mut self) -> Result<bool, Code> {
        if !self.input.is_empty() {
            return Ok(true);
        }
        match self.stream.read_chunk(PIECE, true).await {
            Ok(Some(chunk)) => {
                self.input = chunk.bytes;
                Ok(true)
            }
            Ok(None) => Ok(false),
            // Reset, or the connection is gone, which takes no notice of another error.
            Err(_) => Err(Code::CLOSED_CRITICAL_STREAM),
        }
    }

    /// What kind of stream it is.
    async fn kind(&mut self) -> Option<u64> {
        let mut bytes = Vec::with_capacity(8);
        loop {
            if !self.more().await.ok()? {
                return None;
            }
            bytes.push(self.input.get_u8());
            if let Some((kind, _)) = varint(&bytes) {
                return Some(kind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_a_form() {
        assert_eq!(settings(&[]), Ok(()));
        assert_eq!(settings(&[0x6, 0x40, 0x80, 0x21, 0]), Ok(()));
        assert_eq!(settings(&[0x6]), Err(Code::FRAME_ERROR));
        assert_eq!(settings(&[0x6, 1, 0x6, 1]), Err(Code::SETTINGS_ERROR));
        assert_eq!(settings(&[0x3, 1]), Err(Code::SETTINGS_ERROR));
        assert_eq!(only_number(&[7]), Ok(7));
        assert_eq!(only_number(&[7, 7]), Err(Code::FRAME_ERROR));
        assert_eq!(only_number(&[]), Err(Code::FRAME_ERROR));
    }
}
