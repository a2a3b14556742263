//! Who watches by the conductor's dialect.

use axum::Json;
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};
use waystation_domain::CATEGORIES;
use waystation_domain::policy::RestCall;

use super::Door;
use super::bearer::Caller;
use super::body::Answer;

/// GET /api/websocket/status
pub(super) async fn status(door: Door, headers: HeaderMap) -> Answer {
    let caller = Caller::judge(&door, &headers, RestCall::GetConductorStatus)?;
    let clients = door.parts.conductors.of(&caller.organization()?);
    let count = |category: &str| clients.values().filter(|client| client.categories.contains(category)).count();
    let subscriptions: Map<String, Value> =
        CATEGORIES.iter().map(|category| ((*category).to_owned(), count(category).into())).collect();
    let details = clients.iter().map(|(id, client)| {
        let about = json!({"connectedAt": client.connected.to_string(), "subscriptions": client.categories});
        (id.to_string(), about)
    });
    let details: Map<String, Value> = details.collect();
    Ok(Json(json!({
        "status": "operational",
        "connectedClients": clients.len(),
        "subscriptions": subscriptions,
        "clientDetails": details,
        "timestamp": door.parts.context.clock.now().to_string(),
    }))
    .into_response())
}
