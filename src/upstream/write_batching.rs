//! Requests leave in batches. A task that has read its request yields once, so that the other ready tasks read theirs
//! before any of them is sent. Sent one by one, each request wakes a daemon that has just gone to sleep.

use std::future::poll_fn;
use std::task::Poll;

/// Lets the tasks run that are ready now, but not those that become ready in the meantime.
pub(super) async fn yield_to_ready_tasks() {
    let mut has_yielded = false;
    poll_fn(|context| {
        if has_yielded {
            return Poll::Ready(());
        }
        has_yielded = true;
        // tokio's `yield_now` would also poll the event loop.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::task::LocalSet;

    use super::*;

    #[test]
    fn all_requests_are_read_before_one_is_sent() {
        let order = Rc::new(RefCell::new(String::new()));
        let tasks = LocalSet::new();
        for name in ["a", "b", "c"] {
            let order = Rc::clone(&order);
            tasks.spawn_local(async move {
                order.borrow_mut().push_str(name);
                yield_to_ready_tasks().await;
                order.borrow_mut().push_str(&name.to_uppercase());
            });
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(tasks);
        assert_eq!(order.take(), "abcABC");
    }
}
