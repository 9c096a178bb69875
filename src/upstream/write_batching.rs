//! Requests leave in bursts: first all clients that have sent one are heard, then their requests go out together. One
//! at a time they would wake a daemon that has just gone to sleep again, each of them.

use std::future::poll_fn;
use std::task::Poll;

/// Lets the tasks of this thread that are ready go first, those that become ready meanwhile not.
pub(super) async fn after_the_others() {
    let mut waited = false;
    poll_fn(|context| {
        if waited {
            return Poll::Ready(());
        }
        waited = true;
        // Not `yield_now`, which would ask for events as well.
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
    fn all_are_heard_before_the_first_request_leaves() {
        let order = Rc::new(RefCell::new(String::new()));
        let tasks = LocalSet::new();
        for name in ["a", "b", "c"] {
            let order = Rc::clone(&order);
            tasks.spawn_local(async move {
                order.borrow_mut().push_str(name);
                after_the_others().await;
                order.borrow_mut().push_str(&name.to_uppercase());
            });
        }
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
        runtime.block_on(tasks);
        assert_eq!(order.take(), "abcABC");
    }
}
