//! The same session in protobuf: subprotocol `waystation.v1.proto` (daemon protocol 6.8).

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, client_async};
use waystation_proto::daemon::v1::client_frame::Frame as ClientSays;
use waystation_proto::daemon::v1::server_frame::Frame as ServerSays;
use waystation_proto::daemon::v1::*;
use waystation_proto::router::v1::RouteMessageRequest;
use waystation_tests::{Backend, Cell};

const PROTOCOL: &str = "waystation.v1.proto";

struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn open(cell: &Cell, protocols: &'static str) -> (Client, Option<String>) {
        let host = cell.dev.gateway_url.strip_prefix("ws://").unwrap().split('/').next().unwrap();
        let stream = TcpStream::connect(host).await.unwrap();
        let mut request = cell.dev.gateway_url.as_str().into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocols.parse().unwrap());
        let (socket, response) = client_async(request, stream).await.unwrap();
        let chosen = response.headers().get("sec-websocket-protocol").map(|name| name.to_str().unwrap().to_owned());
        (Client(socket), chosen)
    }

    async fn say(&mut self, frame: ClientSays) {
        let frame = ClientFrame { id: "f1".into(), frame: Some(frame) };
        self.0.send(Message::binary(frame.encode_to_vec())).await.unwrap();
    }

    async fn hear(&mut self) -> ServerFrame {
        let message = tokio::time::timeout(waystation_tests::PATIENCE, self.0.next()).await.unwrap().unwrap().unwrap();
        let Message::Binary(bytes) = message else { panic!("a binary frame, not {message:?}") };
        ServerFrame::decode(bytes).unwrap()
    }

    async fn log_in(cell: &Cell) -> Client {
        let (mut client, chosen) = Client::open(cell, "other, waystation.v1.proto").await;
        assert_eq!(chosen.as_deref(), Some(PROTOCOL));
        client
            .say(ClientSays::Auth(Auth {
                access_token: cell.token("orla").await,
                daemon_id: "d1".into(),
                orchestrator_id: "orla".into(),
                ..Auth::default()
            }))
            .await;
        let welcome = client.hear().await;
        assert_eq!(welcome.reply_to.as_deref(), Some("f1"));
        assert!(matches!(welcome.frame, Some(ServerSays::AuthSuccess(AuthSuccess { max_in_flight: 256, .. }))));
        client
    }

    async fn event(&mut self) -> Event {
        match self.hear().await.frame {
            Some(ServerSays::Event(event)) => event,
            other => panic!("an event, not {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_binary_client_gets_the_very_bytes_and_acknowledges_them() {
    let cell = Cell::start().await;
    let mut client = Client::log_in(&cell).await;
    let data = Bytes::from_static(b"{ \"odd\" : 1.50 , \"text\":\"\\u00e9\" }");
    let request = RouteMessageRequest { data: data.clone(), ..Backend::message("orla", 1) };
    let routed = cell.backend().try_route(request).await.unwrap();
    let event = client.event().await;
    assert_eq!((&event.event_id, &event.data), (&routed.message_id, &data));
    assert_eq!(event.position, routed.position);

    client.say(ClientSays::Ack(Ack { event_ids: vec![event.event_id.clone()], up_to: None, confirm: true })).await;
    let Some(ServerSays::AckResult(result)) = client.hear().await.frame else { panic!("ack_result") };
    assert_eq!(result.results, [AckOutcome { event_id: event.event_id, status: "ACKED".into() }]);
    assert_eq!(cell.backend().depth("orla").await, 0);

    let to = Some(send::To::OrchestratorId("orla".into()));
    client.say(ClientSays::Send(Send { to, data: data.clone(), ..Send::default() })).await;
    let (mut acked, mut delivered) = (None, None);
    while acked.is_none() || delivered.is_none() {
        match client.hear().await.frame {
            Some(ServerSays::SendAck(ack)) => acked = Some(ack.status),
            Some(ServerSays::Event(event)) => delivered = Some((event.sender_orchestrator_id, event.data)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((acked.unwrap().as_str(), delivered.unwrap()), ("DISPATCHED", ("orla".to_owned(), data)));
}

#[tokio::test]
async fn a_frame_of_the_other_kind_is_refused_and_three_close() {
    let cell = Cell::start().await;
    let mut client = Client::log_in(&cell).await;
    for text in ["{}", "{}"] {
        client.0.send(Message::text(text)).await.unwrap();
        let Some(ServerSays::Error(error)) = client.hear().await.frame else { panic!("error") };
        assert_eq!(error.code, "INVALID_MESSAGE");
    }
    client.0.send(Message::binary(vec![0xff, 0xff])).await.unwrap();
    let Some(ServerSays::Error(_)) = client.hear().await.frame else { panic!("error") };
    let Some(Ok(Message::Close(Some(close)))) = client.0.next().await else { panic!("a close") };
    assert_eq!(u16::from(close.code), 1002);
}

#[tokio::test]
async fn a_subprotocol_that_is_not_known_is_not_chosen() {
    let cell = Cell::start().await;
    let host = cell.dev.gateway_url.strip_prefix("ws://").unwrap().split('/').next().unwrap().to_owned();
    let mut stream = TcpStream::connect(&host).await.unwrap();
    let request = format!(
        "GET /daemon/ws HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: graphql-ws, waystation.v9.proto\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 1_024];
    let length = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).to_lowercase();
    assert!(answer.starts_with("http/1.1 101"), "{answer}");
    assert!(!answer.contains("sec-websocket-protocol"), "{answer}");
}
