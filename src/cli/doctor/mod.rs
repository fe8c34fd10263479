//! `holdline doctor`: would a broker run well here, with this configuration, and does the one that runs?
//!
//! Every check says one line, and all of them are made whatever the others found. Nothing is changed: no schema, no node, no lock; only a
//! file that is made in the data directory and removed at once. What a check needs to know is asked here or in the layer that knows it
//! ([`PostgresStore::diagnose`](crate::lifecycle::store::PostgresStore), `server::tls::look`); what it means stands here.

mod applications;
mod database;
mod directory;
mod machine;
mod outside;
mod paste;
mod port;
mod report;
mod safety;

use std::process::ExitCode;

use actix_web::rt::System;
use clap::Args;
use serde_json::json;

use self::{
    paste::{Paste, Public},
    report::{Report, Verdict},
};
use super::{FileArgs, error::CliError, output::print};
use crate::config::Loaded;

/// What to look at.
#[derive(Debug, Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Send no request to the endpoints of webhooks and listeners
    #[arg(long)]
    offline: bool,
    /// The application that the lines to paste are for [default: the first]
    #[arg(long, value_name = "ID")]
    app: Option<String>,
    /// Where clients reach the broker.
    #[arg(
        long,
        value_name = "URL",
        help = "Where clients reach the broker, such as https://shop.example/realtime [default: where it listens]"
    )]
    public_url: Option<String>,
    /// Show the application's secret in the lines to paste
    #[arg(long)]
    show_secret: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// 0 if nothing failed, 1 if something did, 2 for a wrong command line.
pub(super) fn run(args: &DoctorArgs) -> ExitCode {
    let public = args.public_url.as_deref().map(Public::parse).transpose();
    let done = public.and_then(|public| match args.file.load() {
        Ok(loaded) => examine(args, &loaded, public),
        Err(CliError::Config(error)) => {
            let mut report = Report::default();
            report.fail("config", format!("{}; correct it first: nothing else was looked at", report::chain(&error)));
            Ok((report, None))
        }
        Err(other) => Err(other),
    });
    let told = done.and_then(|(report, paste)| tell(args, &report, paste.as_ref()));
    told.unwrap_or_else(|error| error.report())
}

fn tell(args: &DoctorArgs, report: &Report, paste: Option<&Paste>) -> Result<ExitCode, CliError> {
    let text = if args.json {
        let paste = paste.map(|paste| json!({ "env": paste.env, "echo": paste.echo, "pusher_js": paste.pusher_js }));
        let checks: Vec<_> = report.checks().collect();
        let (warned, failed) = (report.count(Verdict::Warn), report.count(Verdict::Fail));
        format!("{}\n", json!({ "ok": failed == 0, "warned": warned, "failed": failed, "checks": checks, "paste": paste }))
    } else {
        format!("{}{}", report.text(report::on_terminal()), paste.map(Paste::text).unwrap_or_default())
    };
    print(&text)?;
    Ok(if report.count(Verdict::Fail) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn examine(args: &DoctorArgs, loaded: &Loaded, public: Option<Public>) -> Result<(Report, Option<Paste>), CliError> {
    let settings = &loaded.settings;
    let in_file = |id: &String| settings.apps.iter().any(|app| app.id == *id);
    if let Some(id) = args.app.as_ref().filter(|id| !settings.app_store.enabled && !in_file(id)) {
        return Err(CliError::UnknownApp { id: id.clone() });
    }
    let mut report = Report::default();
    safety::configuration(&mut report, loaded);
    safety::secrets(&mut report, loaded);
    let seen = safety::tls(&mut report, settings);
    safety::proxies(&mut report, settings);
    let beside = directory::owner(settings);
    machine::open_files(&mut report, settings, beside.as_ref());
    machine::memory(&mut report, settings, beside.as_ref());
    machine::clock(&mut report);
    let kept = System::new().block_on(async {
        let serves = port::main(&mut report, settings, beside.as_ref()).await;
        port::others(&mut report, settings, serves);
        directory::examine(&mut report, settings, beside.as_ref(), serves);
        database::examine(&mut report, settings).await;
        let kept = applications::examine(&mut report, settings).await;
        outside::examine(&mut report, settings, &kept, args.offline).await;
        kept
    });
    let mut apps = settings.apps.iter().chain(&kept);
    let app = match &args.app {
        None => apps.next(),
        Some(id) => Some(apps.find(|app| app.id == *id).ok_or_else(|| CliError::UnknownApp { id: id.clone() })?),
    };
    let paste = app.map(|app| Paste::new(loaded, app, public.unwrap_or_else(|| Public::of(settings, seen.as_ref())), args.show_secret));
    Ok((report, paste))
}
