//! A message comes back as it came.

use outbox_core::inbox::{
    Fate, Identity, InboxDeadReason, InboxStorage, Incoming, IncomingHeaders, OrderingKey, Partition,
};
use time::OffsetDateTime;

use super::cases;
use super::subject::{Subject, aside, dead, incoming};
use crate::case::Case;

pub(super) fn cases<S: InboxStorage>() -> Vec<Case<Subject<S>>> {
    cases![
        a_held_message_comes_back_as_it_came,
        a_dead_letter_comes_back_as_it_came,
        a_replayed_message_comes_back_as_it_came,
        no_payload_is_not_an_empty_one,
        a_payload_of_ten_mebibytes_comes_back,
    ]
}

async fn a_held_message_comes_back_as_it_came<S: InboxStorage>(subject: &Subject<S>) {
    subject.put_aside(&[with(odd())]).await;
    let (_, claimed) = subject.claim(10).await;
    assert_eq!(claimed[0].incoming, odd());
    assert_eq!(claimed[0].identity, Some(odd_identity()));
    assert_eq!(claimed[0].key, Some(OrderingKey::of("заказ", b"\xff\x00\xfe")));
}

async fn a_dead_letter_comes_back_as_it_came<S: InboxStorage>(subject: &Subject<S>) {
    let mut letter = with(odd());
    letter.fate = dead(InboxDeadReason::BeyondRetention, false);
    let before = super::subject::fixture("now", subject.database.now().await);
    subject.put_aside(&[letter]).await;
    let after = super::subject::fixture("now", subject.database.now().await);
    let letter = subject.dead_letters().await.remove(0);
    assert_eq!((letter.incoming, letter.identity), (odd(), Some(odd_identity())));
    assert_eq!(letter.key, Some(OrderingKey::of("заказ", b"\xff\x00\xfe")));
    assert_eq!((letter.reason.as_str(), letter.error.as_str()), ("beyond_retention", "no use"));
    let second = time::Duration::SECOND; // some columns hold whole milliseconds
    assert!(letter.died_at > before - second && letter.died_at < after + second, "{}", letter.died_at);
}

async fn a_replayed_message_comes_back_as_it_came<S: InboxStorage>(subject: &Subject<S>) {
    let mut letter = with(odd());
    letter.fate = dead(InboxDeadReason::Undecodable, false);
    subject.put_aside(&[letter]).await;
    let seq = subject.dead_letters().await[0].seq;
    assert!(subject.admin().replay(&subject.consumer, seq).await.expect("replay"));
    let (_, claimed) = subject.claim(10).await;
    assert_eq!((claimed[0].seq, claimed[0].incoming.clone()), (seq, odd()));
}

async fn no_payload_is_not_an_empty_one<S: InboxStorage>(subject: &Subject<S>) {
    for payload in [None, Some(Vec::new())] {
        let payload = payload.map(Into::into);
        let id = format!("{payload:?}");
        let message = Incoming { payload, key: None, ..incoming("x") };
        let mut aside = aside(&id, None, Fate::Received);
        aside.incoming = message.clone();
        subject.put_aside(&[aside]).await;
        let (_, claimed) = subject.claim(10).await;
        assert_eq!(claimed[0].incoming, message);
    }
}

async fn a_payload_of_ten_mebibytes_comes_back<S: InboxStorage>(subject: &Subject<S>) {
    let bytes: Vec<u8> = (0..10 << 20).map(|n: u32| (n % 251) as u8).collect();
    let mut large = aside("large", None, Fate::Received);
    large.incoming.payload = Some(bytes.clone().into());
    subject.put_aside(&[large]).await;
    let (_, claimed) = subject.claim(10).await;
    assert!(claimed[0].incoming.payload.as_ref().is_some_and(|payload| payload.as_ref() == bytes));
}

fn with(incoming: Incoming) -> outbox_core::inbox::Aside {
    let key = Some(OrderingKey::of("заказ", b"\xff\x00\xfe"));
    outbox_core::inbox::Aside { identity: Some(odd_identity()), key, incoming, fate: Fate::Received }
}

fn odd_identity() -> Identity {
    Identity::new("urn:магазин '\"\\ ", " 7\u{1f}🚀").expect("valid")
}

/// Everything that a column could spoil.
fn odd() -> Incoming {
    let mut headers = IncomingHeaders::default();
    for (name, value) in
        [("a", &b"1"[..]), ("a", b"2"), ("", b""), ("nul", b"\0"), ("raw", b"\xff\xfe\x00"), ("Ü\"\\", b"'")]
    {
        headers.push(name, value.to_vec());
    }
    Incoming {
        partition: Partition::new("заказ", 2_147_483_647),
        position: i64::MAX - 1,
        key: Some(b"\xff\x00\xfe".to_vec().into()),
        headers,
        payload: Some((0..=255).collect::<Vec<u8>>().into()),
        timestamp: OffsetDateTime::from_unix_timestamp_nanos(1_795_256_430_123_000_000).ok(),
        redelivered: true,
    }
}
