//! Where a client is, in one word: mailbox and feed together. All ways of receiving share it.

use std::fmt;
use std::str::FromStr;

use waystation_domain::{Epoch, FeedPoint, Lane, PerLane, ResumePoint};

/// What a client has been given. Written as `<mailbox>~<feed>`: `<epoch>-<critical>-<high>-<normal>-<low>` and
/// `<epoch>-<sequence>`, either of them empty if there is nothing to remember.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Last sequence of each lane.
    pub mailbox: Option<ResumePoint>,
    /// Last sequence of the feed.
    pub feed: Option<FeedPoint>,
}

/// The text is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a cursor")]
pub struct CursorError;

/// Stands for an epoch that there is none of.
const NONE: &str = "0";

fn epoch_of(text: &str) -> Result<Option<Epoch>, CursorError> {
    if text == NONE { Ok(None) } else { text.parse().map(Some).map_err(|_| CursorError) }
}

fn number(text: &str) -> Result<u64, CursorError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(CursorError)
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Cursor, CursorError> {
        let (mailbox, feed) = text.split_once('~').ok_or(CursorError)?;
        let mailbox = match mailbox.split('-').collect::<Vec<_>>()[..] {
            [""] => None,
            [epoch, critical, high, normal, low] => {
                let mut positions = PerLane::default();
                for (lane, text) in Lane::ALL.into_iter().zip([critical, high, normal, low]) {
                    positions[lane] = number(text)?;
                }
                Some(ResumePoint { epoch: epoch_of(epoch)?, positions })
            }
            _ => return Err(CursorError),
        };
        let feed = match feed.split('-').collect::<Vec<_>>()[..] {
            [""] => None,
            [epoch, sequence] => Some(FeedPoint { epoch: epoch_of(epoch)?, sequence: number(sequence)? }),
            _ => return Err(CursorError),
        };
        Ok(Cursor { mailbox, feed })
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = |epoch: Option<Epoch>| epoch.map_or_else(|| NONE.to_owned(), |epoch| epoch.to_string());
        if let Some(ResumePoint { epoch, positions }) = &self.mailbox {
            f.write_str(&named(*epoch))?;
            positions.iter().try_for_each(|(_, sequence)| write!(f, "-{sequence}"))?;
        }
        f.write_str("~")?;
        match &self.feed {
            Some(FeedPoint { epoch, sequence }) => write!(f, "{}-{sequence}", named(*epoch)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_written_and_read() {
        let mailbox = ResumePoint {
            epoch: Some(Epoch::from_raw(0xab)),
            positions: PerLane::from_fn(|lane| if lane == Lane::Normal { 7 } else { 0 }),
        };
        let feed = FeedPoint { epoch: Some(Epoch::from_raw(0xcd)), sequence: 42 };
        let full = Cursor { mailbox: Some(mailbox), feed: Some(feed) };
        assert_eq!(full.to_string(), "00000000000000ab-0-0-7-0~00000000000000cd-42");
        let nothing_yet = FeedPoint { epoch: None, sequence: 0 };
        for cursor in [full, Cursor::default(), Cursor { mailbox: None, feed: Some(nothing_yet) }] {
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
    }

    #[test]
    fn other_texts_are_no_cursors() {
        let bad =
            ["", "garbage", "~x", "~1-2-3", "ab-1~", "00000000000000ab-0-0-7~", "00000000000000ab-0-0-7-+1~", "~0"];
        for bad in bad {
            assert_eq!(bad.parse::<Cursor>(), Err(CursorError), "{bad}");
        }
    }
}
