//! Flags of `failover operator`.

use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};

use super::{DeskListen, Listen, VantageListen};
use crate::model::span::Span;

/// `failover operator`.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
    failover operator crds | kubectl apply --server-side -f -\n  \
    failover operator --namespace failover\n\n\
    The cluster is the one it runs in, else that of the kubeconfig. It works on the resources of one namespace,\n\
    and keeps its journal there. Several replicas may run: one leads, and a deposed one cannot write. Commands,\n\
    such as an approval, go through the leader's control socket: kubectl exec. See 'failover help operator'.\n\n\
    Exit status: 0 it was told to stop, 1 another replica leads or it cannot go on (start it again), 2 used\n\
    wrongly."
)]
pub struct Operator {
    /// Something else than running it.
    #[command(subcommand)]
    pub part: Option<OperatorPart>,
    /// How it runs.
    #[command(flatten)]
    pub run: OperatorRun,
}

/// What else there is.
#[derive(Debug, Subcommand)]
pub enum OperatorPart {
    /// Print the custom resource definitions as YAML.
    Crds(OperatorCrds),
}

/// `failover operator crds`.
#[derive(Debug, Args)]
pub struct OperatorCrds {
    /// Folder that they are written into, a file each, instead of being printed.
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
}

/// How the operator runs.
#[derive(Debug, Args)]
pub struct OperatorRun {
    /// Namespace of the resources and the journal.
    #[arg(
        long,
        env = "POD_NAMESPACE",
        value_name = "NAME",
        help = "Namespace of the resources, the journal and the lease [default: the pod's, or the kubeconfig's]"
    )]
    pub namespace: Option<String>,
    /// What this replica is called [default: the host's name].
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: Option<String>,
    /// Kubeconfig of the cluster [default: $KUBECONFIG, ~/.kube/config, or the pod's own account].
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Folder of the files that documents may name as {file: …}, and no others.
    #[arg(long, value_name = "DIR", default_value = "/etc/failover/secrets")]
    pub secrets: PathBuf,
    /// Run programs that documents name: whoever writes documents then has all that the operator has.
    #[arg(long)]
    pub allow_commands: bool,
    /// Take approvals by kubectl: only where a policy sees to it that each is signed by who made it (the chart's does).
    #[arg(long)]
    pub approvals: bool,
    /// Name of the Lease that elects the leader.
    #[arg(long, value_name = "NAME", default_value = "failover")]
    pub lease: String,
    /// A lease that was not renewed for so long may be taken.
    #[arg(long, value_name = "DURATION", default_value = "15s")]
    pub lease_duration: Span,
    /// How long a renewal may take.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub renew_deadline: Span,
    /// Time between two attempts.
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    pub retry_period: Span,
    /// Address of the leader's status page, for the public; 'off' for none.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "off")]
    pub listen: Listen,
    /// UDP address that guards speak to the leader at ('failover guard'); 'off' for none.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "off")]
    pub guard_listen: Listen,
    /// The leader's desk.
    #[command(flatten)]
    pub desk: DeskListen,
    /// Observers elsewhere.
    #[command(flatten)]
    pub vantage: VantageListen,
    /// `EndpointSlice` that the leader writes its own address into, so that a Service without a selector leads to it alone.
    #[arg(
        long,
        value_name = "NAME",
        help = "EndpointSlice that the leader writes its address into; may be given several times"
    )]
    pub endpoint_slice: Vec<String>,
    /// This replica's address, for --endpoint-slice.
    #[arg(long, env = "POD_IP", value_name = "ADDRESS")]
    pub address: Option<IpAddr>,
    /// Address of /metrics, /healthz and /readyz of every replica; 'off' for none.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "0.0.0.0:9633")]
    pub metrics: Listen,
}
