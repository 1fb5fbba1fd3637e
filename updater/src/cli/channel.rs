//! `upright channel`.

use clap::Args;
use upright_manifests::name::ChannelName;

use super::exit::{Exit, Failure};
use super::{Context, output};

/// Show or choose the channel that this host follows
#[derive(Debug, Args)]
pub(super) struct Channel {
    /// Follow this channel from now on
    channel: Option<ChannelName>,

    /// Follow the channel in the configuration again
    #[arg(long, conflicts_with = "channel")]
    default: bool,
}

impl Channel {
    pub(super) fn run(&self, context: &Context) -> Result<Exit, Failure> {
        if self.default || self.channel.is_some() {
            let _lock = context.lock()?;
            let mut agent = context.agent(None)?;
            agent.follow(self.channel.clone())?;
        }
        let record = context.record()?;
        let configured = &context.config.update.channel;
        let channel = record.channel.as_ref().unwrap_or(configured);
        let told = serde_json::json!({ "channel": channel, "configured": configured });
        output::print(context.json, &told, || match record.channel.is_some() {
            true => format!("{channel} (chosen by an operator; the configuration says {configured})"),
            false => format!("{channel}"),
        })?;
        Ok(Exit::Done)
    }
}
