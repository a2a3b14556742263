//! What a delegator and those who work on its task share about it.

use serde_json::{Value, json};
use tonic::Code;
use waystation_proto::common::v1::ErrorReason;
use waystation_proto::federation::v1::*;
use waystation_tests::{Backend, Cell, code_and_reason};

use super::worker::{Worker, ends, task};

async fn put(
    calls: &Backend,
    id: &str,
    name: &str,
    value: impl Into<String>,
    version: Option<u64>,
) -> Result<u64, tonic::Status> {
    let request = PutContextRequest {
        delegation_id: id.into(),
        name: name.into(),
        value: value.into().into(),
        version,
        ..Default::default()
    };
    calls.federation.clone().put_context(request).await.map(|answer| answer.into_inner().version)
}

async fn get(calls: &Backend, id: &str, names: &[&str]) -> Result<Vec<(String, String, u64)>, tonic::Status> {
    let mut entries = Vec::new();
    let mut page_token = String::new();
    loop {
        let names = names.iter().map(|name| (*name).into()).collect();
        let request = GetContextRequest { delegation_id: id.into(), names, page_token, ..Default::default() };
        let page = calls.federation.clone().get_context(request).await?.into_inner();
        let text = |entry: ContextEntry| (entry.name, String::from_utf8(entry.value.to_vec()).unwrap(), entry.version);
        entries.extend(page.entries.into_iter().map(text));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(entries);
        }
    }
}

fn entry(name: &str, value: &str) -> ContextEntry {
    ContextEntry { name: name.into(), value: value.to_owned().into(), version: 0 }
}

fn is(name: &str, value: &str, version: u64) -> (String, String, u64) {
    (name.into(), value.into(), version)
}

#[tokio::test]
async fn a_delegator_and_its_assignee_share_what_nobody_else_sees() {
    let cell = Cell::start().await;
    let mut boss = Worker::start(&cell, "boss", &[], 0).await;
    let mut anna = Worker::start(&cell, "anna", &["research"], 1).await;
    let mallory = Worker::start(&cell, "mallory", &["testing"], 1).await;
    let context = vec![entry("plan", r#"{"steps": [1, 2.50]}"#), entry("scratchpad", "[]")];
    let id = boss.delegate(DelegateTaskRequest { context, ..task("research") }).await;
    let offered = anna.mail_of("delegation.offered").await;
    assert_eq!(offered["context"], json!(["plan", "scratchpad"]));
    let offer = (id.clone(), 1);
    let plan = is("plan", r#"{"steps": [1, 2.50]}"#, 1);
    assert_eq!(get(&anna.calls, &id, &["plan"]).await.unwrap(), [plan], "byte for byte, before it says yes");
    let early = put(&anna.calls, &id, "plan", "1", None).await.unwrap_err();
    assert_eq!(early.code(), Code::NotFound, "but it does not write before");
    anna.answer(&offer, true).await;
    boss.mail_of("delegation.accepted").await;
    assert_eq!(put(&anna.calls, &id, "plan", r#"{"steps":[]}"#, Some(1)).await.unwrap(), 2);
    assert_eq!(put(&anna.calls, &id, "plan", r#"{"steps":[]}"#, Some(1)).await.unwrap(), 2, "said twice");
    let told = boss.mail_of("delegation.context").await;
    assert_eq!((&told["name"], &told["version"], &told["by"]), (&json!("plan"), &json!(2), &json!("anna")));
    let behind = put(&boss.calls, &id, "plan", "0", Some(1)).await.unwrap_err();
    assert_eq!(code_and_reason(&behind), (Code::Aborted, Some(ErrorReason::OtherVersion)));
    assert_eq!(behind.message(), "the entry has version 2");
    assert_eq!(put(&boss.calls, &id, "plan", "null", Some(2)).await.unwrap(), 3);
    assert_eq!(anna.mail_of("delegation.context").await["version"], 3);
    for stranger in [get(&mallory.calls, &id, &[]).await.unwrap_err(), {
        put(&mallory.calls, &id, "plan", "1", None).await.unwrap_err()
    }] {
        assert_eq!(stranger.code(), Code::NotFound, "as if it were not there");
    }
    let backend = cell.backend();
    assert_eq!(put(&backend, &id, "hint", "7", Some(0)).await.unwrap(), 1);
    assert_eq!(boss.mail_of("delegation.context").await["by"], Value::Null);
    assert_eq!(anna.mail_of("delegation.context").await["name"], "hint");
    anna.complete(&offer, "{}").await;
    ends(&cell, &id).await;
    let all = [is("hint", "7", 1), is("plan", "null", 3), is("scratchpad", "[]", 1)];
    assert_eq!(get(&anna.calls, &id, &[]).await.unwrap(), all, "it stays for a day");
    assert_eq!(get(&boss.calls, &id, &[]).await.unwrap(), all);
    let over = put(&boss.calls, &id, "plan", "1", None).await.unwrap_err();
    assert_eq!(code_and_reason(&over), (Code::FailedPrecondition, Some(ErrorReason::DelegationState)));
}

#[tokio::test]
async fn a_context_has_limits_that_name_the_field() {
    let cell = Cell::start().await;
    let backend = cell.backend();
    let delegate = async |context: Vec<ContextEntry>| {
        let request = DelegateTaskRequest { context, ..task("research") };
        backend.federation.clone().delegate_task(request).await.map(|answer| answer.into_inner().delegation_id)
    };
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let refused = async |context: Vec<ContextEntry>| {
        let status = delegate(context).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    let bad = |message: &str| (Code::InvalidArgument, message.to_owned());
    assert_eq!(refused(vec![entry("a", "1"), entry("a", "2")]).await, bad("context[1].name was named before"));
    assert_eq!(refused(vec![entry("a", &text(65_537))]).await, bad("context[0].value must have at most 65536 bytes"));
    let many: Vec<_> = (0..65).map(|n| entry(&format!("e-{n}"), "1")).collect();
    assert_eq!(refused(many).await, bad("context[64].value would be one of more than 64 entries"));
    let large: Vec<_> = (0..17).map(|n| entry(&format!("e-{n:02}"), &text(65_536))).collect();
    assert_eq!(refused(large.clone()).await, bad("context[16].value would make the context larger than 1048576 bytes"));
    assert_eq!(refused(vec![entry("", "1")]).await.0, Code::InvalidArgument);
    assert!(refused(vec![entry("a", "{")]).await.1.starts_with("context[0].value"));

    let id = delegate(large[..16].to_vec()).await.unwrap();
    let found = get(&backend, &id, &[]).await.unwrap();
    assert_eq!(found.len(), 16, "page by page");
    assert_eq!(found[15], is("e-15", &text(65_536), 1));
    let status = put(&backend, &id, "more", "1", None).await.unwrap_err();
    assert_eq!(status.message(), "value would make the context larger than 1048576 bytes");
    let status = put(&backend, &id, "e-00", text(65_537), None).await.unwrap_err();
    assert_eq!(status.message(), "value must have at most 65536 bytes");
    put(&backend, &id, "e-00", "1", None).await.unwrap();
    put(&backend, &id, "more", "1", None).await.unwrap();
}
