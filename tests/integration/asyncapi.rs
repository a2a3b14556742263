//! docs/asyncapi.yaml: what it says of frames is so.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use jsonschema::Validator;
use serde_json::{Value, json};

const DOCUMENT: &str = "../docs/asyncapi.yaml";

/// The schemas of frames, by their types.
pub struct Frames {
    validators: BTreeMap<String, Validator>,
    seen: BTreeSet<String>,
}

impl Frames {
    pub fn read() -> Frames {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT)).unwrap();
        let document: Value = serde_yaml_ng::from_str(&text).unwrap();
        let messages = document["components"]["messages"].as_object().unwrap();
        let validator = |name: &String| {
            let schema = json!({
                "$schema": "http://json-schema.org/draft-07/schema#",
                "allOf": [messages[name]["payload"]],
                "components": document["components"],
            });
            let options = jsonschema::options().should_validate_formats(true);
            (name.clone(), options.build(&schema).unwrap_or_else(|error| panic!("{name}: {error}")))
        };
        Frames { validators: messages.keys().map(validator).collect(), seen: BTreeSet::new() }
    }

    /// What is wrong with a frame.
    pub fn problems(&mut self, frame: &Value) -> Vec<String> {
        let kind = frame["type"].as_str().unwrap();
        self.seen.insert(kind.to_owned());
        let Some(validator) = self.validators.get(kind) else { return vec![format!("{kind} is not described")] };
        validator.iter_errors(frame).map(|error| format!("{kind}{}: {error}", error.instance_path)).collect()
    }

    /// Frames that are described and were not seen.
    pub fn unseen(&self) -> Vec<&String> {
        self.validators.keys().filter(|kind| !self.seen.contains(*kind)).collect()
    }
}

#[test]
fn a_frame_that_is_not_as_described_is_found() {
    let mut frames = Frames::read();
    let id = "01234567-89ab-8cde-8000-000000000005";
    let good = json!({"type": "send_ack", "id": id, "timestamp": "2026-01-01T00:00:00.000Z",
        "payload": {"messageId": "m", "status": "QUEUED", "sequence": 1}});
    assert_eq!(frames.problems(&good), Vec::<String>::new());
    for (path, value) in [
        ("/payload/status", json!("LOST")),
        ("/id", json!("x")),
        ("/payload/more", json!(1)),
        ("/type", json!("made_up")),
    ] {
        let mut bad = good.clone();
        let (parent, member) = path.rsplit_once('/').unwrap();
        bad.pointer_mut(parent).unwrap()[member] = value;
        assert!(!frames.problems(&bad).is_empty(), "{path}");
    }
    assert!(!frames.problems(&json!({"type": "nack", "payload": {"eventId": "a", "delayMs": 3_600_001}})).is_empty());
}
