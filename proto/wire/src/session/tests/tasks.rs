//! Calls about tasks.

use serde_json::json;
use waystation_domain::policy::FrameKind;

use super::*;

fn call(kind: FrameKind) -> Box<TaskCall> {
    Box::new(TaskCall { kind, payload: Bytes::from_static(b"{}") })
}

/// The calls that the owner was asked for.
fn asked(world: &World) -> Vec<FrameKind> {
    let kind = |command: &Command| match command {
        Command::Call { call, .. } => Some(call.kind),
        _ => None,
    };
    world.asked.iter().filter_map(kind).collect()
}

#[test]
fn calls_are_made_one_after_the_other_and_answered_in_their_order() {
    let mut world = World::new(None, 10);
    let kinds = [FrameKind::DelegationResponse, FrameKind::DelegationProgress, FrameKind::DelegationResult];
    for kind in kinds {
        world.frame(ClientFrame::Task(call(kind)));
    }
    assert_eq!(asked(&world), kinds[..1]);
    for (made, _) in kinds.iter().enumerate() {
        world.session.handle_called(Ok(("delegation_ack", json!({"n": made}))), world.now);
        world.run();
        assert_eq!(asked(&world), kinds[..kinds.len().min(made + 2)]);
    }
    let number = |frame: &ServerFrame| match frame {
        ServerFrame::TaskAnswer { payload, .. } => payload["n"].as_u64().unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(world.sent.iter().map(number).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn calls_that_are_not_answered_stop_the_reading_of_more() {
    let mut world = World::new(None, 10);
    for _ in 0..64 {
        world.frame(ClientFrame::Task(call(FrameKind::Delegate)));
    }
    assert!(!world.session.wants_input());
    let refused = SendRefused {
        code: ErrorCode::InvalidMessage,
        message: "is missing".into(),
        field: Some("payload.task".into()),
        reason: Some("INVALID_FIELD"),
        limited: None,
    };
    world.session.handle_called(Err(refused), world.now);
    world.run();
    assert_eq!(world.errors(), [(ErrorCode::InvalidMessage, Some("payload.task".into()))]);
    assert!(world.session.wants_input());
}

#[test]
fn without_the_scope_nothing_is_called() {
    let mut world = World::new(None, 10);
    let renewed = Renewed { scopes: [Scope::FederationRead].into_iter().collect(), expires: Timestamp::default() };
    world.session.handle_refreshed(None, Ok(renewed));
    world.frame(ClientFrame::Task(call(FrameKind::Delegate)));
    assert_eq!(world.errors(), [(ErrorCode::InsufficientScope, None)]);
    world.frame(ClientFrame::Task(call(FrameKind::QueryCapabilities)));
    assert_eq!(asked(&world), [FrameKind::QueryCapabilities]);
}
