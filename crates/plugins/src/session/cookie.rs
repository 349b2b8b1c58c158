//! The cookie: what it holds, sealed, and how it is written.
//!
//! A ticket is a random id and the times that timeouts are counted from. It is sealed together with the session's contents, or
//! with nothing where those are kept elsewhere, under a key of its own: HKDF-SHA256 of the secret with the ticket's id as
//! salt. AES-256-GCM hides the contents, and nothing of it, nor the name and audience it was made for, can be changed
//! unnoticed.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use portcullis_plugin::Headers;

/// What a sealed ticket begins with.
const FORMAT: u8 = 1;
const ID: usize = 32;
const NONCE: usize = 12;
const HEAD: usize = 1 + ID + 3 * 8;

/// How much of a value goes into one cookie; browsers take some 4 KiB with name and attributes.
const CHUNK: usize = 3800;
/// How many cookies a value may be spread over.
const CHUNKS: usize = 9;

/// Which session it is, and since when. Times are seconds since the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub id: [u8; ID],
    /// When the client authenticated.
    pub created: u64,
    /// When the session was renewed last.
    pub rolled: u64,
    /// When it was used last, as far as was noted.
    pub touched: u64,
}

impl Ticket {
    /// A ticket with a new id; none if the system has no random numbers.
    pub fn new(created: u64, now: u64) -> Option<Self> {
        let mut id = [0; ID];
        rand::fill(&mut id).ok()?;
        Some(Self { id, created, rolled: now, touched: now })
    }

    /// The id as text.
    pub fn name(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.id)
    }

    fn head(&self) -> [u8; HEAD] {
        let mut head = [FORMAT; HEAD];
        head[1..=ID].copy_from_slice(&self.id);
        for (at, time) in [self.created, self.rolled, self.touched].into_iter().enumerate() {
            head[1 + ID + 8 * at..][..8].copy_from_slice(&time.to_be_bytes());
        }
        head
    }

    fn of(head: &[u8; HEAD]) -> Option<Self> {
        let time = |at: usize| head[1 + ID + 8 * at..][..8].try_into().map(u64::from_be_bytes).ok();
        let id = head[1..=ID].try_into().ok()?;
        (head[0] == FORMAT).then_some(Self { id, created: time(0)?, rolled: time(1)?, touched: time(2)? })
    }
}

/// Seals tickets for one purpose.
pub struct Seal {
    secret: hkdf::Prk,
    purpose: Vec<u8>,
}

impl Seal {
    /// `purpose` is whatever must agree between who seals and who opens: the cookie's name, the audience.
    pub fn new(secret: &[u8], purpose: &[&str]) -> Self {
        let secret = hkdf::Salt::new(hkdf::HKDF_SHA256, b"portcullis session").extract(secret);
        // Lengths keep ("ab", "c") apart from ("a", "bc").
        let purpose = purpose.iter().flat_map(|part| [&(part.len() as u64).to_be_bytes(), part.as_bytes()].concat()).collect();
        Self { secret, purpose }
    }

    fn key(&self, id: &[u8]) -> Option<LessSafeKey> {
        let mut key = [0; 32];
        let info = [self.purpose.as_slice(), id];
        self.secret.expand(&info, hkdf::HKDF_SHA256).ok()?.fill(&mut key).ok()?;
        Some(LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).ok()?))
    }

    pub fn close(&self, ticket: &Ticket, contents: &[u8]) -> Option<String> {
        let head = ticket.head();
        let mut nonce = [0; NONCE];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = contents.to_vec();
        let key = self.key(&ticket.id)?;
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(head), &mut sealed).ok()?;
        Some(URL_SAFE_NO_PAD.encode([&head[..], &nonce, &sealed].concat()))
    }

    /// None unless it was sealed with the same secret for the same purpose.
    pub fn open(&self, text: &[u8]) -> Option<(Ticket, Vec<u8>)> {
        let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let head: [u8; HEAD] = bytes.get(..HEAD)?.try_into().ok()?;
        let ticket = Ticket::of(&head)?;
        let nonce = bytes.get(HEAD..HEAD + NONCE)?.try_into().ok()?;
        let key = self.key(&ticket.id)?;
        let contents = key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(head), &mut bytes[HEAD + NONCE..]).ok()?;
        Some((ticket, contents.to_vec()))
    }
}

/// Name and attributes of a cookie.
pub struct Cookie {
    pub name: String,
    /// Domain, path and flags, each with the `; ` before it.
    pub attributes: String,
}

impl Cookie {
    /// The value that the client sent, put together from its pieces.
    pub fn read(&self, headers: &Headers) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        for at in 0..CHUNKS {
            let Some(piece) = find(headers, &self.piece(at)) else { break };
            value.extend_from_slice(piece);
            if piece.len() < CHUNK {
                break;
            }
        }
        (!value.is_empty()).then_some(value)
    }

    /// The values of the `Set-Cookie` headers that bring this value to the client. `max_age` in seconds lets it outlive the
    /// browser. None if it is too large.
    pub fn write(&self, value: &str, max_age: Option<u64>, now: u64) -> Option<Vec<String>> {
        let pieces: Vec<&[u8]> = value.as_bytes().chunks(CHUNK).collect();
        if pieces.len() > CHUNKS {
            return None;
        }
        let lasting = max_age.map_or_else(String::new, |seconds| {
            let end = std::time::UNIX_EPOCH + std::time::Duration::from_secs(now.saturating_add(seconds).min(LAST_SECOND));
            format!("; Expires={}; Max-Age={seconds}", httpdate::fmt_http_date(end))
        });
        let text = |piece: &[u8]| String::from_utf8_lossy(piece).into_owned();
        let lines = pieces.iter().enumerate();
        Some(lines.map(|(at, piece)| format!("{}={}{}{lasting}", self.piece(at), text(piece), self.attributes)).collect())
    }

    /// The `Set-Cookie` values that make the client forget what it sent.
    pub fn forget(&self, headers: &Headers) -> Vec<String> {
        let sent = (0..CHUNKS).map(|at| self.piece(at)).filter(|piece| find(headers, piece).is_some());
        sent.map(|piece| format!("{piece}={}; Expires=Thu, 01 Jan 1970 00:00:01 GMT; Max-Age=0", self.attributes)).collect()
    }

    /// `session`, `session2`, `session3`, …
    fn piece(&self, at: usize) -> String {
        if at == 0 { self.name.clone() } else { format!("{}{}", self.name, at + 1) }
    }
}

/// The last second that an HTTP date can name: the end of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

fn find<'a>(headers: &'a Headers, name: &str) -> Option<&'a [u8]> {
    let pairs = headers.get_all("Cookie").flat_map(|value| value.split(|byte| *byte == b';')).map(<[u8]>::trim_ascii);
    pairs.filter_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")).next()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn seal() -> Seal {
        Seal::new(b"secret", &["session", "default"])
    }

    #[test]
    fn what_is_sealed_is_opened_with_the_same_secret_for_the_same_purpose_only() {
        let ticket = Ticket { touched: 30, ..Ticket::new(10, 20).unwrap() };
        let text = seal().close(&ticket, b"contents").unwrap();
        assert_eq!(seal().open(text.as_bytes()).unwrap(), (ticket, b"contents".to_vec()));
        for other in [Seal::new(b"other", &["session", "default"]), Seal::new(b"secret", &["sessiond", "efault"])] {
            assert_eq!(other.open(text.as_bytes()), None);
        }
    }

    #[test]
    fn no_byte_of_it_can_be_changed() {
        let text = seal().close(&Ticket::new(10, 20).unwrap(), b"contents").unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(text).unwrap();
        for at in 0..bytes.len() {
            let mut forged = bytes.clone();
            forged[at] ^= 1;
            assert_eq!(seal().open(URL_SAFE_NO_PAD.encode(&forged).as_bytes()), None, "byte {at}");
            assert_eq!(seal().open(URL_SAFE_NO_PAD.encode(&bytes[..at]).as_bytes()), None, "{at} bytes");
        }
    }

    #[test]
    fn a_long_value_is_spread_over_cookies_and_found_again() {
        let cookie = Cookie { name: "s".to_owned(), attributes: "; Path=/".to_owned() };
        for length in [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let value: String = "abcdefg".chars().cycle().take(length).collect();
            let lines = cookie.write(&value, None, 0).unwrap();
            let mut headers = Headers::default();
            let pairs: Vec<&str> = lines.iter().map(|line| line.split(';').next().unwrap()).collect();
            headers.append("Cookie", format!("a=b; {}", pairs.join("; ")).as_bytes());
            assert_eq!(cookie.read(&headers).unwrap(), value.as_bytes(), "{length}");
            assert_eq!(cookie.forget(&headers).len(), lines.len(), "{length}");
        }
        assert_eq!(cookie.write(&"x".repeat(CHUNK * CHUNKS + 1), None, 0), None);
    }

    #[test]
    fn a_lasting_cookie_says_until_when() {
        let cookie = Cookie { name: "s".to_owned(), attributes: "; Path=/".to_owned() };
        let lines = cookie.write("v", Some(60), 0).unwrap();
        assert_eq!(lines, ["s=v; Path=/; Expires=Thu, 01 Jan 1970 00:01:00 GMT; Max-Age=60"]);
    }
}
