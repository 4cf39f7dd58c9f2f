//! What the broker closes a channel or a connection over. `OUTBOX_TEST_AMQP` names one with TLS at `OUTBOX_TEST_AMQPS`.

mod common;

use common::broker::{Observer, rabbitmqctl, uri, variable, with_vhost};
use common::{Dispatch, eventually, message, unique};
use outbox_amqp::{AmqpTransport, AmqpTransportBuilder, Topology};
use outbox_core::Message;
use outbox_core::ports::{Outcome, OutcomeSink, Transport};

fn builder(uri: &str) -> AmqpTransportBuilder {
    AmqpTransport::builder(uri).exchange("{aggregate_type}").routing_key("all").topology(Topology::Check)
}

async fn connect_fault(builder: AmqpTransportBuilder) -> String {
    let transport = builder.build().expect("a transport");
    let (sink, _outcomes) = OutcomeSink::channel();
    match transport.connect(sink).await {
        Ok(_) => panic!("connected"),
        Err(error) => error.to_string(),
    }
}

async fn new_destination(name: &str) -> (Observer, String) {
    let (observer, name) = (Observer::connect().await, unique(name));
    observer.destination(&name).await;
    (observer, name)
}

fn messages(exchange: &str, count: usize) -> Vec<Message> {
    (0..count).map(|n| message(exchange, Some(&format!("key-{n}")), n.to_string().into_bytes())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exchange_that_vanishes_pauses_its_own_route_and_the_rest_goes_on() {
    let (observer, gone) = new_destination("gone").await;
    let (other_observer, stays) = new_destination("stays").await;
    let transport = builder(&uri()).channels(1).topology(Topology::Leave).build().expect("a transport");
    let (of_gone, of_stays) = (messages(&gone, 50), messages(&stays, 50));
    let mut dispatch = Dispatch::open(&transport, &of_gone[0]).await;
    assert_eq!(dispatch.open_route(&of_stays[0]).await, Ok(()));
    dispatch.publish(&[of_gone[0].clone(), of_stays[0].clone()]).await;
    observer.delete_exchange(&gone).await;

    let mixed: Vec<_> = of_gone[1..].iter().zip(&of_stays[1..]).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    let outcomes = dispatch.outcomes(&mixed).await;
    for (sent, outcome) in mixed.iter().zip(&outcomes) {
        match outcome {
            Outcome::RoutePaused(reason) => {
                assert!(sent.aggregate_type == gone && reason.0.contains("404 NOT_FOUND"), "{reason}");
            }
            Outcome::Published | Outcome::Quarantine(_) => assert_eq!(sent.aggregate_type, stays),
            other => panic!("{other:?}"),
        }
    }
    // those that were open on the channel are sent again, each alone, and all arrive
    let again: Vec<_> = mixed.iter().zip(&outcomes).filter(|(_, o)| matches!(o, Outcome::Quarantine(_))).collect();
    for (sent, _) in &again {
        assert_eq!(dispatch.outcomes(std::slice::from_ref(*sent)).await, [Outcome::Published]);
    }
    assert!(other_observer.payloads(&stays).await.len() >= 50);
    other_observer.delete_exchange(&stays).await;
}

/// RabbitMQ takes 128 MiB at most whatever its configuration (3.x); the transport was told more.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_only_the_broker_refuses_is_rejected_alone() {
    let (observer, name) = new_destination("refused").await;
    let transport = builder(&uri()).channels(1).max_message_bytes(usize::MAX).build().expect("a transport");
    let mut batch = messages(&name, 40);
    batch[20] = message(&name, Some("too large"), vec![b'x'; 128 * 1024 * 1024 + 1]);
    let mut dispatch = Dispatch::open(&transport, &batch[0]).await;
    let outcomes = dispatch.outcomes(&batch).await;
    assert!(matches!(&outcomes[20], Outcome::Quarantine(reason) if reason.0.contains("406")), "{:?}", outcomes[20]);
    let again: Vec<_> =
        (0..40).filter(|n| matches!(outcomes[*n], Outcome::Quarantine(_))).map(|n| batch[n].clone()).collect();
    for (sent, outcome) in again.iter().zip(dispatch.outcomes(&again).await) {
        if sent.id == batch[20].id {
            assert!(matches!(&outcome, Outcome::Reject(reason) if reason.0.contains("larger than")), "{outcome:?}");
        } else {
            assert_eq!(outcome, Outcome::Published);
        }
    }
    dispatch.publish(&messages(&name, 3)).await;
    drop(dispatch);
    assert!(observer.payloads(&name).await.len() >= 42);
    observer.delete_exchange(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_killed_ends_the_session() {
    let (observer, name) = new_destination("killed").await;
    let connection_name = unique("victim");
    let transport = builder(&uri()).connection_name(&*connection_name).build().expect("a transport");
    let batch = messages(&name, 2);
    let mut dispatch = Dispatch::open(&transport, &batch[0]).await;
    dispatch.publish(&batch[..1]).await;
    let pid = eventually("the connection is listed", || async {
        let list = rabbitmqctl(&["list_connections", "pid", "client_properties", "--silent"]);
        let line = list.lines().find(|line| line.contains(&connection_name))?.to_owned();
        Some(line.split('\t').next()?.to_owned())
    })
    .await;
    rabbitmqctl(&["close_connection", &pid, "for a test"]);
    let reason = dispatch.lost().await;
    assert!(reason.0.contains("320") && reason.0.contains("for a test"), "{reason}");

    let mut dispatch = Dispatch::open(&transport, &batch[1]).await;
    dispatch.publish(&batch[1..]).await;
    observer.delete_exchange(&name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_and_virtual_hosts_are_named_and_the_password_is_not() {
    let fault = connect_fault(builder(&uri()).credentials("guest", "s3cr3t")).await;
    assert!(fault.contains("403 ACCESS_REFUSED") && !fault.contains("s3cr3t"), "{fault}");
    assert!(fault.contains("check user and password"), "{fault}");
    let fault = connect_fault(builder(&with_vhost(&uri(), "nowhere"))).await;
    assert!(fault.contains("530 NOT_ALLOWED") && fault.contains("nowhere"), "{fault}");
    assert!(fault.contains("check the virtual host"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_host_and_a_user_without_permission() {
    let (vhost, user) = (unique("vhost"), unique("user"));
    rabbitmqctl(&["add_vhost", &vhost]);
    rabbitmqctl(&["set_permissions", "-p", &vhost, "guest", ".*", ".*", ".*"]);
    rabbitmqctl(&["add_user", &user, "pass"]);
    rabbitmqctl(&["set_permissions", "-p", &vhost, &user, "^$", "^allowed$", ".*"]);
    let uri = with_vhost(&uri(), &vhost);
    let observer = Observer::connect_to(&uri).await;
    for name in ["allowed", "forbidden"] {
        observer.destination(name).await;
    }

    // declaring needs a permission that the user does not have
    let declaring =
        builder(&uri).credentials(&*user, "pass").topology(Topology::default()).build().expect("a transport");
    let refused = Dispatch::connect(&declaring).await.open_route(&message("new", None, &b""[..])).await;
    assert!(
        matches!(&refused, Err(Outcome::RoutePaused(reason)) if reason.0.contains("403 ACCESS_REFUSED")),
        "{refused:?}"
    );

    let transport = builder(&uri).credentials(&*user, "pass").build().expect("a transport");
    let (allowed, forbidden) = (message("allowed", Some("a"), &b"1"[..]), message("forbidden", Some("a"), &b"2"[..]));
    let mut dispatch = Dispatch::open(&transport, &allowed).await;
    assert_eq!(dispatch.open_route(&forbidden).await, Ok(()));
    dispatch.publish(std::slice::from_ref(&allowed)).await;
    let outcome = dispatch.outcomes(&[forbidden]).await.remove(0);
    assert!(matches!(&outcome, Outcome::RoutePaused(reason) if reason.0.contains("403 ACCESS_REFUSED")), "{outcome:?}");
    dispatch.publish(&[allowed]).await;
    assert_eq!(observer.payloads("allowed").await.len(), 2);
    rabbitmqctl(&["delete_vhost", &vhost]);
    rabbitmqctl(&["delete_user", &user]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_delivers_to_a_broker_that_is_trusted_and_to_no_other() {
    let (observer, name) = new_destination("tls").await;
    let uri = variable("OUTBOX_TEST_AMQPS");
    let ca = std::fs::read_to_string(variable("OUTBOX_TEST_AMQP_CA")).expect("a certificate");
    let sent = message(&name, Some("a"), &b"1"[..]);
    let transport = builder(&uri).ca_pem(ca).build().expect("a transport");
    Dispatch::open(&transport, &sent).await.publish(&[sent]).await;
    assert_eq!(observer.payloads(&name).await, [b"1"]);
    observer.delete_exchange(&name).await;

    let fault = connect_fault(builder(&uri)).await;
    assert!(fault.contains("certificate") && fault.contains("give the CA"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_accepts_and_says_nothing_is_an_error_in_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let uri = format!("amqp://{}/%2f", silent.local_addr().expect("an address"));
    let fault = connect_fault(builder(&uri).request_timeout(std::time::Duration::from_millis(500))).await;
    assert!(fault.contains("no answer within 500 ms"), "{fault}");
}
