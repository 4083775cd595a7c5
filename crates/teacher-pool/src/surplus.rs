//! Says that there are more teachers than batches for them.

use std::sync::Arc;

use crate::{roster::Roster, shared::Shared};

/// Says so, once, unless the pool is closed before.
pub(crate) async fn run(shared: Arc<Shared>) {
    let told = tell(&shared.roster, shared.config.prefetch);
    shared.closed.run_until_cancelled(told).await;
}

/// Waits until more than `prefetch` teachers are connected, and says that some have nothing to do.
async fn tell(roster: &Roster, prefetch: usize) {
    let mut connected = roster.watch_connected();
    let more = connected.wait_for(|count| *count > prefetch).await;
    // An error would mean that the roster is gone, which lives as long as its pool.
    if let Ok(count) = more.map(|count| *count) {
        roster.notice(format!(
            "{count} teachers are connected, but teacher.prefetch asks for only {prefetch} batches \
             at a time: raise it to use them all"
        ));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::{
        place::{Place, Standing},
        roster::tests::roster,
    };

    #[tokio::test]
    async fn teachers_with_nothing_to_do_are_told() {
        let (roster, told) = roster();
        let connect = |endpoint| roster.set(&Place::new(endpoint, None), Standing::Connected);
        connect("a:1");
        connect("b:1");
        assert!(tell(&roster, 2).now_or_never().is_none());
        connect("c:1");
        tell(&roster, 2).await;
        let last = told.0.lock().unwrap().pop().unwrap();
        assert_eq!(
            last,
            "3 teachers are connected, but teacher.prefetch asks for only 2 batches at a time: \
             raise it to use them all"
        );
        // That each of them is connected.
        assert_eq!(told.0.lock().unwrap().len(), 3);
    }
}
