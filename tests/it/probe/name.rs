//! Names: what a resolver says on the way to an endpoint, and `probe/dns`, where the name itself is looked at.

use std::{net::Ipv4Addr, time::Instant};

use failover::model::{
    observation::Sight::{Down, Unknown, Up},
    service::Via,
    span::Span,
};
use hickory_proto::{
    op::{Message, MessageType, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata},
};
use serde_json::json;

use super::{look, look_for, probe, seen};
use crate::stand::{
    host::{Host, http},
    name_server::NameServer,
};

/// An answer with this code, and these addresses where A records were asked for.
fn reply(question: &Message, code: ResponseCode, addresses: &[Ipv4Addr]) -> Message {
    let mut answer = question.clone();
    answer.edns = None;
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.response_code = code;
    let query = &question.queries[0];
    if query.query_type == RecordType::A {
        for ip in addresses {
            let data = RData::A(rdata::A(*ip));
            answer.add_answer(Record::from_rdata(query.name.clone(), 30, data));
        }
    }
    answer
}

async fn saying(code: ResponseCode, addresses: &'static [Ipv4Addr]) -> NameServer {
    NameServer::answering(move |q, _| Some(reply(q, code, addresses).to_vec().unwrap())).await
}

async fn silent() -> NameServer {
    NameServer::answering(|_, _| None).await
}

#[tokio::test]
async fn a_name_leads_to_its_address() {
    let host = Host::saying(http("200 OK", "", "")).await;
    let server = saying(ResponseCode::NoError, &[Ipv4Addr::LOCALHOST]).await;
    let with = json!({
        "url": format!("http://shop.example:{}/", host.address.port()),
        "resolver": server.address.to_string(),
    });
    let look = look(&probe("probe/http", &with)).await;
    seen(&look, Up);
    assert!(look.facts.http.unwrap().dns_us > 0);
}

#[tokio::test]
async fn a_name_that_is_gone_is_down_and_a_resolver_that_cannot_tell_is_unknown() {
    for (code, sight) in [
        (ResponseCode::NXDomain, Down),
        (ResponseCode::NoError, Down),
        (ResponseCode::ServFail, Unknown),
        (ResponseCode::Refused, Unknown),
    ] {
        let server = saying(code, &[]).await;
        let with = json!({"url": "http://shop.example/", "resolver": server.address.to_string()});
        seen(&look(&probe("probe/http", &with)).await, sight);
    }
}

#[tokio::test]
async fn a_silent_resolver_is_unknown_within_the_time_out() {
    let server = silent().await;
    let with = json!({"url": "http://shop.example/", "resolver": server.address.to_string()});
    let made = probe("probe/http", &with);
    let begin = Instant::now();
    let look = look_for(&made, Via::Direct, Span::from_millis(400)).await;
    assert_eq!(
        seen(&look, Unknown),
        "no answer within 400 ms (this host's resolver is silent)"
    );
    assert!(begin.elapsed().as_millis() < 900);
}

#[tokio::test]
async fn an_answer_is_compared_as_a_set() {
    const TWO: &[Ipv4Addr] = &[Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
    let server = saying(ResponseCode::NoError, TWO).await;
    let look_at = async |expect| {
        let server = server.address.to_string();
        let with = json!({"name": "shop.example", "server": server, "expect": expect});
        look(&probe("probe/dns", &with)).await
    };
    let up = look_at(json!(["192.0.2.2", "192.0.2.1"])).await;
    assert!(seen(&up, Up).starts_with("192.0.2.1, 192.0.2.2 in "));
    seen(&look_at(json!([])).await, Up);
    let down = look_at(json!(["192.0.2.1"])).await;
    assert_eq!(
        seen(&down, Down),
        "the answer is 192.0.2.1, 192.0.2.2, not 192.0.2.1"
    );
}

#[tokio::test]
async fn a_named_server_is_what_is_looked_at() {
    for code in [
        ResponseCode::NXDomain,
        ResponseCode::NoError,
        ResponseCode::ServFail,
        ResponseCode::Refused,
    ] {
        let server = saying(code, &[]).await;
        let with = json!({"name": "shop.example", "server": server.address.to_string()});
        seen(&look(&probe("probe/dns", &with)).await, Down);
    }
    let server = silent().await;
    let with = json!({"name": "shop.example", "server": server.address.to_string()});
    let timeout = Span::from_millis(300);
    let look = look_for(&probe("probe/dns", &with), Via::Direct, timeout).await;
    assert_eq!(seen(&look, Down), "no answer within 300 ms (question sent)");
}

#[tokio::test]
async fn a_truncated_answer_is_fetched_over_tcp() {
    let server = NameServer::answering(|q, tcp| {
        let mut answer = reply(q, ResponseCode::NoError, &[Ipv4Addr::LOCALHOST]);
        if !tcp {
            answer.answers.clear();
            answer.metadata.truncation = true;
        }
        Some(answer.to_vec().unwrap())
    })
    .await;
    let with = json!({"name": "shop.example", "server": server.address.to_string()});
    let look = look(&probe("probe/dns", &with)).await;
    assert!(seen(&look, Up).starts_with("127.0.0.1 in "));
}

#[tokio::test]
async fn an_answer_to_another_question_is_none() {
    let server = NameServer::answering(|q, _| {
        let mut other = reply(q, ResponseCode::NoError, &[Ipv4Addr::LOCALHOST]);
        other.queries[0].name = Name::from_ascii("evil.example.").unwrap();
        Some(other.to_vec().unwrap())
    })
    .await;
    let with = json!({"name": "shop.example", "server": server.address.to_string()});
    let timeout = Span::from_millis(300);
    let look = look_for(&probe("probe/dns", &with), Via::Direct, timeout).await;
    seen(&look, Down);
}
