//! What was delivered, against what was committed.

use std::collections::HashMap;

use outbox_testkit::memory::PublishedMessage;
use uuid::Uuid;

use crate::writers::Event;

/// Fails unless every committed event, and nothing else, was delivered once, in the order of its key.
pub(crate) fn check(committed: &[Event], published: &[PublishedMessage]) {
    let mut expected: HashMap<Uuid, &Event> = committed.iter().map(|event| (event.id, event)).collect();
    let mut last: HashMap<usize, i64> = HashMap::new();
    let (mut strangers, mut reordered) = (Vec::new(), Vec::new());
    for delivery in published {
        let message = &delivery.message;
        let Some(event) = expected.remove(&message.id) else {
            strangers.push(message.id); // rolled back, or delivered twice without a fault
            continue;
        };
        assert_eq!(message.aggregate_id.as_deref(), Some(event.key.to_string().as_str()), "the key of {}", event.id);
        assert_eq!(message.payload.as_ref(), event.n.to_string().as_bytes(), "the payload of {}", event.id);
        let before = last.insert(event.key, event.n).unwrap_or(0);
        if event.n <= before {
            reordered.push(format!("key {}: {} after {before}", event.key, event.n));
        }
    }
    println!(
        "{} committed, {} delivered, {} lost, {} ghosts or duplicates, {} reordered",
        committed.len(),
        published.len(),
        expected.len(),
        strangers.len(),
        reordered.len()
    );
    assert!(reordered.is_empty(), "{} reordered: {:?}", reordered.len(), reordered.first());
    assert!(strangers.is_empty(), "{} ghosts or duplicates", strangers.len());
    assert!(expected.is_empty(), "{} lost: {:?}", expected.len(), expected.values().next());
}
