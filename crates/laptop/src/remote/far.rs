//! What the deployed code of claimed functions logs, for whoever is attached: the half of the log that was not written here.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use model::{FunctionId, LogLine, TimeSpan};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{Wanted, story::Stories};
use crate::api::{Client, LogQuery, When};

/// Between tries where the log of a function cannot be followed.
const PAUSE: Duration = Duration::from_secs(2);

/// Follows the logs of the functions that are wanted, as that changes; what invocations that ran here wrote is left out.
pub async fn follow(
    api: Client,
    mut wants: watch::Receiver<Wanted>,
    mut ready: watch::Receiver<BTreeSet<FunctionId>>,
    stories: Stories,
    lines: mpsc::UnboundedSender<LogLine>,
) {
    let mut followed: BTreeMap<FunctionId, CancellationToken> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    loop {
        {
            let (wanted, ready) = (wants.borrow_and_update(), ready.borrow_and_update());
            let is_meant =
                |function: &FunctionId| ready.contains(function) && wanted.means(&function.name);
            followed.retain(|function, token| {
                let stays = is_meant(function);
                if !stays {
                    token.cancel();
                }
                stays
            });
            for function in ready.iter().filter(|function| is_meant(function)) {
                if followed.contains_key(function) {
                    continue;
                }
                let token = CancellationToken::new();
                followed.insert(function.clone(), token.clone());
                let (api, function) = (api.clone(), function.clone());
                let (stories, lines) = (stories.clone(), lines.clone());
                tasks.spawn(async move {
                    let following = follow_one(api, function, stories, lines);
                    token.run_until_cancelled(following).await;
                });
            }
        }
        let changed = tokio::select! {
            changed = wants.changed() => changed,
            changed = ready.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

async fn follow_one(
    api: Client,
    function: FunctionId,
    stories: Stories,
    lines: mpsc::UnboundedSender<LogLine>,
) {
    let query = LogQuery {
        since: Some(When::Ago(TimeSpan(0))),
        follow: true,
        ..LogQuery::default()
    };
    loop {
        if let Ok(mut log) = api.logs(&function, &query).await {
            while let Ok(Some(line)) = log.next().await {
                let is_ours = |id| stories.about(id).is_some();
                if line.invocation.is_some_and(is_ours) {
                    continue;
                }
                if lines.send(line).is_err() {
                    return;
                }
            }
        }
        sleep(PAUSE).await;
    }
}
