//! The event stream of the conductor kind: another dialect, spoken by clients that only watch (daemon protocol, section 3).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use waystation_domain::{
    CATEGORIES, FeedEvent, FeedGap, FeedPoint, FeedPosition, Pattern, Subscriptions, Timestamp, category_of,
    check_document,
};

use crate::close::CloseCode;
use crate::feed::SharedEvent;
use crate::follow::{FeedNews, FollowRequest, Follower, LetGo, Shown};
use crate::handshake::STRIKES;
use crate::payload::shortened;
use crate::words;

/// Frames that wait for the socket before the client lets go of the head.
const BEHIND_AT: usize = 16;

/// What the owner of a client does for it.
#[derive(Clone, Debug, PartialEq)]
pub enum ConductorCommand {
    /// Write a text frame.
    Send(ConductorFrame),
    /// What is subscribed has changed: whoever matches events must know.
    Filter(Subscriptions),
    /// Follow the feed, then [`Conductor::handle_feed`].
    Follow(FollowRequest),
    /// Nothing comes by itself any more.
    Unfollow,
    /// Write what is waiting, then close.
    Close(CloseCode),
}

/// A frame for a client.
#[derive(Clone, Debug, PartialEq)]
pub enum ConductorFrame {
    /// An event that connections share.
    Event(Arc<SharedEvent>),
    /// Anything else, as text.
    Text(String),
}

/// One client.
#[derive(Debug)]
pub struct Conductor {
    client: String,
    categories: BTreeSet<&'static str>,
    follower: Follower,
    /// The answer to a subscription, until it is known where the feed is.
    unacknowledged: bool,
    strikes: u8,
    closed: bool,
    commands: VecDeque<ConductorCommand>,
}

#[derive(Deserialize)]
struct Frame {
    #[serde(rename = "type")]
    kind: String,
    categories: Option<Vec<String>>,
    position: Option<String>,
    /// Some clients put everything in here.
    data: Option<Box<Members>>,
}

#[derive(Deserialize)]
struct Members {
    categories: Option<Vec<String>>,
    position: Option<String>,
}

impl Conductor {
    /// A client that has connected. The first command greets it.
    pub fn new(client: String, now: Timestamp) -> Conductor {
        let mut conductor = Conductor {
            client,
            categories: BTreeSet::new(),
            follower: Follower::default(),
            unacknowledged: false,
            strikes: 0,
            closed: false,
            commands: VecDeque::new(),
        };
        let greeting = json!({
            "type": "event", "timestamp": now.to_string(), "clientId": conductor.client,
            "data": {"connectedAt": now.to_string()},
        });
        conductor.say(&greeting);
        conductor
    }

    /// Names the client.
    pub fn client(&self) -> &str {
        &self.client
    }

    /// What is subscribed.
    pub fn categories(&self) -> &BTreeSet<&'static str> {
        &self.categories
    }

    /// What to do next.
    pub fn next_command(&mut self) -> Option<ConductorCommand> {
        if self.commands.is_empty() && !self.closed {
            self.commands.extend(self.follower.ask().map(ConductorCommand::Follow));
        }
        self.commands.pop_front()
    }

    /// Takes a command back that cannot be performed now; it comes first again.
    pub fn put_back(&mut self, command: ConductorCommand) {
        self.commands.push_front(command);
    }

    /// Whether a frame of the client can be taken now.
    pub fn wants_input(&self) -> bool {
        self.commands.len() < BEHIND_AT
    }

    /// Takes a frame.
    pub fn handle_frame(&mut self, text: &str, now: Timestamp) {
        match self.take(text, now) {
            Ok(()) => self.strikes = 0,
            Err(problem) => {
                self.say(&json!({"type": "error", "timestamp": now.to_string(), "data": {"error": problem}}));
                self.strikes += 1;
                if self.strikes >= STRIKES {
                    self.close(CloseCode::ProtocolError);
                }
            }
        }
    }

    fn take(&mut self, text: &str, now: Timestamp) -> Result<(), String> {
        check_document(text.as_bytes()).map_err(|error| error.to_string())?;
        let Frame { kind, categories, position, data } =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        let (inner, at) = data.map(|data| (data.categories, data.position)).unwrap_or_default();
        let categories = categories.or(inner);
        match kind.as_str() {
            "ping" => self.say(&json!({"type": "pong", "timestamp": now.to_string()})),
            "subscribe" => {
                let wanted = categories.ok_or("categories: missing field `categories`")?;
                let wanted = known(&wanted)?;
                let position = position.or(at).map(|text| text.parse::<FeedPosition>());
                let position = position.transpose().map_err(|_| "position: is not a position")?;
                self.categories.extend(wanted);
                self.change(position.map(FeedPoint::from), now);
            }
            "unsubscribe" => {
                let gone = match categories {
                    Some(categories) => known(&categories)?,
                    None => CATEGORIES.to_vec(),
                };
                self.categories.retain(|category| !gone.contains(category));
                self.change(None, now);
            }
            unknown => return Err(format!("type: unknown frame type {:?}", shortened(unknown))),
        }
        Ok(())
    }

    /// The set of categories has changed.
    fn change(&mut self, from: Option<FeedPoint>, now: Timestamp) {
        let patterns = self.categories.iter().filter_map(|category| format!("{category}.*").parse::<Pattern>().ok());
        let patterns: Vec<Pattern> = patterns.collect();
        // There are fewer categories than patterns may be.
        let wanted = Subscriptions::default().subscribe(&patterns, &BTreeSet::new()).unwrap_or_default();
        self.commands.push_back(ConductorCommand::Filter(wanted));
        if patterns.is_empty() {
            let let_go = self.follower.stop();
            self.let_go(let_go);
            self.acknowledge(now);
        } else if self.follower.point().is_none() && self.follower.is_settled() {
            self.follower.begin(from);
            // Whoever is answered misses nothing that is published afterwards.
            self.unacknowledged = true;
        } else {
            self.acknowledge(now);
        }
    }

    fn acknowledge(&mut self, now: Timestamp) {
        self.unacknowledged = false;
        let mut data = json!({"categories": self.categories});
        if let Some(FeedPoint { epoch: Some(epoch), sequence }) = self.follower.point() {
            data["position"] = FeedPosition { epoch, sequence }.to_string().into();
        }
        self.say(&json!({"type": "subscription-ack", "timestamp": now.to_string(), "data": data}));
    }

    /// Something of the feed has come. Call it in the order in which it came.
    pub fn handle_feed(&mut self, news: FeedNews, now: Timestamp) {
        let has_room = matches!(news, FeedNews::Followed(_)) || self.commands.len() < BEHIND_AT;
        let mut shown = Vec::new();
        let let_go = self.follower.take(news, has_room, |one| shown.push(one));
        self.let_go(let_go);
        if self.unacknowledged && self.follower.point().is_some() {
            self.acknowledge(now);
        }
        for one in shown {
            match one {
                Shown::Event(event) => self.commands.push_back(ConductorCommand::Send(ConductorFrame::Event(event))),
                Shown::Gap(gap) => self.say(&gap_frame(&gap, now)),
            }
        }
    }

    /// Events may have been dropped on their way here.
    pub fn handle_overflow(&mut self) {
        let let_go = self.follower.fall_behind();
        self.let_go(let_go);
    }

    /// Nothing may be shown now.
    pub fn suspend(&mut self) {
        let first = self.commands.iter().find_map(|command| match command {
            ConductorCommand::Send(ConductorFrame::Event(event)) => Some(event.event.position),
            ConductorCommand::Send(ConductorFrame::Text(_))
            | ConductorCommand::Filter(_)
            | ConductorCommand::Follow(_)
            | ConductorCommand::Unfollow
            | ConductorCommand::Close(_) => None,
        });
        let let_go = self.follower.suspend(first);
        let is_event = |command: &ConductorCommand| {
            matches!(command, ConductorCommand::Send(ConductorFrame::Event(_)) | ConductorCommand::Follow(_))
        };
        self.commands.retain(|command| !is_event(command));
        self.let_go(let_go);
    }

    /// Showing goes on.
    pub fn resume(&mut self) {
        self.follower.resume();
    }

    fn let_go(&mut self, LetGo(let_go): LetGo) {
        if let_go {
            self.commands.push_back(ConductorCommand::Unfollow);
        }
    }

    fn say(&mut self, frame: &Value) {
        if !self.closed {
            self.commands.push_back(ConductorCommand::Send(ConductorFrame::Text(frame.to_string())));
        }
    }

    /// Ends the connection.
    pub fn close(&mut self, code: CloseCode) {
        if !std::mem::replace(&mut self.closed, true) {
            self.commands.push_back(ConductorCommand::Close(code));
        }
    }
}

impl ConductorFrame {
    /// Writes the frame of a client behind what `out` holds.
    pub fn encode(&self, client: &str, out: &mut Vec<u8>) {
        match self {
            ConductorFrame::Text(text) => out.extend_from_slice(text.as_bytes()),
            ConductorFrame::Event(event) => {
                out.extend_from_slice(event.conductor());
                out.extend_from_slice(client.as_bytes());
                out.extend_from_slice(b"\"}");
            }
        }
    }
}

fn known(categories: &[String]) -> Result<Vec<&'static str>, String> {
    let find = |name: &String| CATEGORIES.iter().copied().find(|known| known == name);
    let each = categories.iter().enumerate().map(|(index, name)| {
        let unknown = || format!("categories[{index}]: {:?} must be one of {}", shortened(name), CATEGORIES.join(", "));
        find(name).ok_or_else(unknown)
    });
    each.collect()
}

fn gap_frame(gap: &FeedGap, now: Timestamp) -> Value {
    let mut data = json!({"reason": words::feed_loss(gap.loss), "count": gap.count()});
    if let Some(epoch) = gap.epoch.filter(|_| gap.from > 0) {
        data["from"] = FeedPosition { epoch, sequence: gap.from }.to_string().into();
        data["to"] = FeedPosition { epoch, sequence: gap.to }.to_string().into();
    }
    json!({"type": "gap", "timestamp": now.to_string(), "data": data})
}

/// An event as this dialect tells it, up to the id of the client.
pub(crate) fn encode_event(event: &FeedEvent) -> Bytes {
    let (category, name) = category_of(&event.event_type).unwrap_or(("", event.event_type.as_str()));
    let data = String::from_utf8_lossy(&event.data);
    let FeedEvent { id, time, position, .. } = event;
    format!(
        r#"{{"type":"event","event":"{name}","category":"{category}","data":{data},"timestamp":"{time}","id":"{id}","position":"{position}","clientId":""#
    )
    .into()
}

#[cfg(test)]
mod tests {
    use waystation_domain::{Audience, Epoch, MessageId};

    use super::*;
    use crate::follow::Followed;

    fn event(sequence: u64) -> Arc<SharedEvent> {
        let position = FeedPosition { epoch: Epoch::from_raw(1), sequence };
        SharedEvent::new(FeedEvent {
            position,
            id: MessageId::of_feed(position),
            event_type: "dlq.entry-resolved".parse().unwrap(),
            channel: None,
            trace: None,
            sender: None,
            audience: Audience::default(),
            time: Timestamp::from_millis(42),
            data: Bytes::from_static(br#"{"entryId":"e"}"#),
        })
    }

    fn client() -> Conductor {
        Conductor::new("c1".into(), Timestamp::default())
    }

    /// Frames that were said, and everything else that was asked for.
    fn run(conductor: &mut Conductor) -> (Vec<Value>, Vec<ConductorCommand>) {
        let (mut said, mut asked) = (Vec::new(), Vec::new());
        while let Some(command) = conductor.next_command() {
            match command {
                ConductorCommand::Send(frame) => {
                    let mut out = Vec::new();
                    frame.encode("c1", &mut out);
                    said.push(serde_json::from_slice(&out).unwrap());
                }
                other @ (ConductorCommand::Filter(_)
                | ConductorCommand::Follow(_)
                | ConductorCommand::Unfollow
                | ConductorCommand::Close(_)) => asked.push(other),
            }
        }
        (said, asked)
    }

    fn followed(number: u64, events: &[u64], at: u64) -> FeedNews {
        let at = FeedPosition { epoch: Epoch::from_raw(1), sequence: at }.into();
        let events = events.iter().map(|sequence| event(*sequence)).collect();
        FeedNews::Followed(Box::new(Followed { number, gaps: Vec::new(), events, at, is_live: true }))
    }

    #[test]
    fn a_client_is_greeted_subscribes_and_gets_what_it_asked_for() {
        let mut conductor = client();
        let (said, _) = run(&mut conductor);
        assert_eq!((&said[0]["type"], &said[0]["clientId"]), (&json!("event"), &json!("c1")));
        assert!(said[0]["data"]["connectedAt"].is_string());
        conductor.handle_frame(r#"{"type":"subscribe","categories":["dlq"],"clientId":"c1"}"#, Timestamp::default());
        let (said, asked) = run(&mut conductor);
        assert!(said.is_empty(), "not before it is known where the feed is");
        assert!(matches!(&asked[..], [ConductorCommand::Filter(_), ConductorCommand::Follow(_)]), "{asked:?}");
        conductor.handle_feed(followed(1, &[], 4), Timestamp::default());
        conductor.handle_feed(FeedNews::Event(event(5)), Timestamp::default());
        let (said, _) = run(&mut conductor);
        assert_eq!(said[0]["type"], "subscription-ack");
        assert_eq!(said[0]["data"], json!({"categories": ["dlq"], "position": "0000000000000001.4"}));
        assert_eq!(
            said[1],
            json!({
                "type": "event", "event": "entry-resolved", "category": "dlq", "data": {"entryId": "e"},
                "timestamp": "1970-01-01T00:00:00.042Z", "id": "0000000000000001.f.5", "position": "0000000000000001.5",
                "clientId": "c1",
            })
        );
    }

    #[test]
    fn a_client_goes_on_where_it_stopped() {
        let mut conductor = client();
        run(&mut conductor);
        let subscribe = r#"{"type":"subscribe","data":{"categories":["dlq"],"position":"0000000000000001.9"}}"#;
        conductor.handle_frame(subscribe, Timestamp::default());
        let (_, asked) = run(&mut conductor);
        let from = FeedPosition { epoch: Epoch::from_raw(1), sequence: 9 }.into();
        assert_eq!(asked[1], ConductorCommand::Follow(FollowRequest { number: 1, from: Some(from) }));
    }

    #[test]
    fn the_full_set_is_told_and_ping_is_answered() {
        let mut conductor = client();
        conductor.handle_frame(r#"{"type":"subscribe","categories":["dlq","webhook"]}"#, Timestamp::default());
        conductor.handle_feed(followed(0, &[], 0), Timestamp::default());
        run(&mut conductor);
        conductor.handle_feed(followed(1, &[], 1), Timestamp::default());
        conductor.handle_frame(r#"{"type":"unsubscribe","categories":["dlq"]}"#, Timestamp::default());
        conductor.handle_frame(r#"{"type":"ping"}"#, Timestamp::default());
        conductor.handle_frame(r#"{"type":"unsubscribe"}"#, Timestamp::default());
        let (said, asked) = run(&mut conductor);
        let sets: Vec<_> = said.iter().map(|frame| frame["data"]["categories"].clone()).collect();
        assert_eq!(sets, [json!(["dlq", "webhook"]), json!(["webhook"]), Value::Null, json!([])]);
        assert_eq!(said[2]["type"], "pong");
        assert!(asked.contains(&ConductorCommand::Unfollow));
    }

    #[test]
    fn bad_frames_are_answered_and_three_in_a_row_end_it() {
        let mut conductor = client();
        run(&mut conductor);
        let cases = [
            (r#"{"type":"subscribe"}"#, "categories"),
            (r#"{"type":"subscribe","categories":["news"]}"#, "categories[0]"),
            (r#"{"type":"ping"}"#, ""),
            (r#"{"type":"subscribe","categories":["dlq"],"position":"garbage"}"#, "position"),
            (r#"{"type":"dance"}"#, "type"),
            ("{", "is not acceptable JSON"),
        ];
        for (frame, named) in cases {
            conductor.handle_frame(frame, Timestamp::default());
            let (said, asked) = run(&mut conductor);
            let error = said[0]["data"]["error"].as_str().unwrap_or_default();
            assert!(error.starts_with(named), "{frame}: {error}");
            assert_eq!(!asked.is_empty(), frame == "{", "{frame}");
        }
    }

    #[test]
    fn a_client_that_does_not_read_holds_little() {
        let mut conductor = client();
        run(&mut conductor);
        conductor.handle_frame(r#"{"type":"subscribe","categories":["dlq"]}"#, Timestamp::default());
        run(&mut conductor);
        conductor.handle_feed(followed(1, &[], 0), Timestamp::default());
        for sequence in 1..200 {
            conductor.handle_feed(FeedNews::Event(event(sequence)), Timestamp::default());
        }
        assert!(conductor.commands.len() <= 18);
        let (said, asked) = run(&mut conductor);
        let last: FeedPosition = said.last().unwrap()["position"].as_str().unwrap().parse().unwrap();
        let Some(ConductorCommand::Follow(request)) = asked.last() else { panic!("it asks for the rest") };
        assert_eq!(request.from, Some(last.into()));
    }
}
