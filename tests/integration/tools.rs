//! Tasks by REST, for tools of the older platform.

use serde_json::{Value, json};
use waystation_tests::Cell;

use super::worker::Worker;

async fn ask(cell: &Cell, method: &str, path: &str, body: Value) -> (u16, Value) {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {}", cell.dev.service_token));
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = waystation_tests::http(&cell.dev.http_url, request.body(body).unwrap()).await;
    (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap())
}

async fn get(cell: &Cell, path: &str) -> Value {
    let (status, answer) = ask(cell, "GET", path, Value::Null).await;
    assert_eq!(status, 200, "{path} {answer}");
    answer
}

#[tokio::test]
async fn a_tool_hands_a_task_on_and_sees_how_it_does() {
    let cell = Cell::start().await;
    let mut anna = Worker::start(&cell, "anna", &["analysis"], 4).await;
    let body = json!({
        "targetOrchestratorId": "anna",
        "task": {"type": "analysis", "payload": {"table": "sales"}, "priority": "URGENT", "timeout": 60_000},
        "context": {"scratchpad": {"seen": 1}},
    });
    let (status, answer) = ask(&cell, "POST", "/api/federation/delegate", body).await;
    assert_eq!(status, 200, "{answer}");
    let id = answer["delegationId"].as_str().unwrap().to_owned();
    assert_eq!((&answer["targetOrchestratorId"], &answer["taskId"]), (&json!("anna"), &json!(id)));
    assert_eq!((&answer["status"]["status"], &answer["metadata"]), (&json!("PENDING"), &json!({})));
    assert!(answer["createdAt"].as_str().unwrap().ends_with('Z') && answer.get("acceptedAt").is_none());
    let offered = anna.mail_of("delegation.offered").await;
    assert_eq!((&offered["task"]["priority"], &offered["timeoutMs"]), (&json!("critical"), &json!(60_000)));
    assert_eq!(offered["context"], json!(["scratchpad"]));
    let offer = (id.clone(), 1);
    let path = format!("/api/federation/delegations/{id}/status");
    anna.answer(&offer, true).await;
    assert_eq!(get(&cell, &path).await["status"]["status"], "ACCEPTED");
    anna.progress(&offer, 40).await;
    let running = get(&cell, &path).await;
    let progress = json!({"current": 40, "total": 100, "percentage": 40});
    assert_eq!((&running["status"]["status"], &running["status"]["progress"]), (&json!("IN_PROGRESS"), &progress));
    assert!(running["timing"]["acceptedAt"].is_string() && running["timing"].get("completedAt").is_none());
    let cluster = get(&cell, "/api/federation/cluster/status").await;
    assert_eq!((&cluster["cluster"]["status"], &cluster["cluster"]["id"]), (&json!("HEALTHY"), &json!("dev")));
    assert_eq!(cluster["sessions"][0]["id"], id.as_str());
    assert_eq!((&cluster["summary"]["slots"], &cluster["summary"]["freeSlots"]), (&json!(4), &json!(3)));
    anna.complete(&offer, r#"{"n":1}"#).await;
    let done = get(&cell, &format!("{path}?includeLogs=true")).await;
    assert_eq!((&done["status"]["status"], &done["result"]), (&json!("COMPLETED"), &json!({"n": 1})));
    assert!(done["timing"]["duration"].is_u64() && done["timing"]["completedAt"].is_string());
    let logs: Vec<_> = done["logs"].as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert_eq!(logs, ["anna was chosen", "offered to anna", "accepted by anna", "done by anna"]);
    let without = get(&cell, &format!("{path}?includeResult=false")).await;
    assert!(without.get("result").is_none() && without.get("logs").is_none());
    let cluster = get(&cell, "/api/federation/cluster/status?includeNodes=false").await;
    assert_eq!((&cluster["nodes"], &cluster["sessions"]), (&json!([]), &json!([])));
    assert_eq!(cluster["metrics"]["completedDelegations"], 1);
    assert!(cluster["metrics"]["requestsPerSecond"].as_f64().unwrap() > 0.0);
    assert_eq!(get(&cell, "/api/federation/cluster/status?includeMetrics=false").await["metrics"], json!({}));
}

#[tokio::test]
async fn a_tool_pages_through_those_who_take_tasks() {
    let cell = Cell::start().await;
    let _anna = Worker::start(&cell, "anna", &["analysis", "testing"], 4).await;
    let _bert = Worker::start(&cell, "bert", &["testing"], 1).await;
    let mut cleo = Worker::start(&cell, "cleo", &["testing"], 1).await;
    let names = |answer: &Value| {
        let all = answer["orchestrators"].as_array().unwrap();
        all.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let page = get(&cell, "/api/federation/orchestrators?limit=2").await;
    assert_eq!(names(&page), ["anna", "bert"]);
    assert_eq!((&page["total"], &page["limit"], &page["offset"]), (&json!(3), &json!(2), &json!(0)));
    assert_eq!(page["hasMore"], true);
    let anna = &page["orchestrators"][0];
    assert_eq!((&anna["status"], &anna["capabilities"]), (&json!("online"), &json!(["analysis", "testing"])));
    assert_eq!(anna["load"], json!({"current": 0, "maximum": 4, "percentage": 0}));
    for time in ["lastHeartbeat", "createdAt", "updatedAt"] {
        assert!(anna[time].as_str().unwrap().starts_with("20"), "{anna}");
    }
    let rest = get(&cell, "/api/federation/orchestrators?limit=2&offset=2").await;
    assert_eq!((names(&rest), &rest["hasMore"]), (vec!["cleo".to_owned()], &json!(false)));
    let able = get(&cell, "/api/federation/orchestrators?capability=analysis,testing").await;
    assert_eq!((names(&able), &able["total"]), (vec!["anna".to_owned()], &json!(1)));
    cleo.daemon.send(waystation_tests::frame("goodbye", json!({}))).await;
    let offline = async || {
        let found = get(&cell, "/api/federation/orchestrators?status=offline").await;
        (names(&found) == ["cleo"]).then_some(())
    };
    waystation_tests::eventually("she is gone", offline).await;
    assert_eq!(get(&cell, "/api/federation/cluster/status").await["cluster"]["status"], "DEGRADED");
    for (path, field) in [
        ("/api/federation/orchestrators?status=lost", "status"),
        ("/api/federation/orchestrators?limit=0", "limit"),
        ("/api/federation/orchestrators?limit=x", "limit"),
        ("/api/federation/cluster/status?includeNodes=2", "includeNodes"),
    ] {
        let (status, answer) = ask(&cell, "GET", path, Value::Null).await;
        assert_eq!((status, &answer["code"]), (400, &json!("VALIDATION_ERROR")), "{path}");
        assert!(answer["error"].as_str().unwrap().contains(field), "{answer}");
    }
    for (body, field) in [
        (json!({}), "task"),
        (json!({"task": {"timeout": "soon"}}), "task.timeout"),
        (json!({"task": {"priority": "SOON"}}), "task.priority"),
        (json!({"targetOrchestratorId": 7, "task": {}}), "toOrchestratorId"),
    ] {
        let (status, answer) = ask(&cell, "POST", "/api/federation/delegate", body).await;
        assert_eq!((status, &answer["code"]), (400, &json!("VALIDATION_ERROR")), "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(field), "{answer}");
    }
    assert_eq!(ask(&cell, "GET", "/api/federation/delegations/none/status", Value::Null).await.0, 404);
}
