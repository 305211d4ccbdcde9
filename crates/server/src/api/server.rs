//! `/v1/server`: what this server is, and what it can do.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use axum::{Json, extract::State};
use model::Limits;
use serde::Serialize;

use super::{Answer, MayInvoke, Server};

#[derive(Serialize)]
pub(crate) struct Info {
    version: &'static str,
    projects: Vec<String>,
    home_project: String,
    data_dir: PathBuf,
    limits: Limits,
    open: bool,
    runtimes: BTreeMap<&'static str, Option<String>>,
}

/// What this server is.
pub(crate) async fn show(State(app): Server, _: MayInvoke) -> Answer<Json<Info>> {
    let table = app.registry.table();
    let bun = app
        .bun_version
        .get_or_init(|| version_of(app.deploys.bun.clone()))
        .await;
    Ok(Json(Info {
        version: env!("CARGO_PKG_VERSION"),
        projects: table.projects().into_iter().map(str::to_owned).collect(),
        home_project: app.home_project.to_string(),
        data_dir: app.data_dir.clone(),
        limits: (*app.limits).clone(),
        open: app.access.is_open(),
        runtimes: BTreeMap::from([
            ("isolate", Some("built in".to_owned())),
            ("bun", bun.clone()),
        ]),
    }))
}

/// What `--version` of a runtime says; `None` if it is not there or does not say.
async fn version_of(program: Option<PathBuf>) -> Option<String> {
    let program = program?;
    let asked =
        tokio::task::spawn_blocking(move || Command::new(program).arg("--version").output());
    let output = asked.await.ok()?.ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    Some(said.trim().to_owned()).filter(|version| output.status.success() && !version.is_empty())
}
