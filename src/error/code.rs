//! The codes of the program, FO-0xx: each has a page of its own in the help. A code keeps its meaning for ever; one that
//! is no longer used is not given out again.

/// One page of `failover help FO-0xx`.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// `FO-012`.
    pub name: &'static str,
    /// What happened, in one line.
    pub title: &'static str,
    /// Why that may be.
    pub cause: &'static str,
    /// What to do.
    pub fix: &'static str,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $ident:ident = $name:literal, $title:literal, $cause:literal, $fix:literal;)*) => {
        $($(#[$doc])* pub const $ident: Code = Code { name: $name, title: $title, cause: $cause, fix: $fix };)*

        /// Every code of the program, in order.
        pub const CODES: &[&Code] = &[$(&$ident),*];
    };
}

codes! {
    /// Flags or arguments that do not go together.
    USAGE = "FO-001", "The command was used wrongly.",
        "Flags or arguments are missing, or do not go together.",
        "Read 'failover help COMMAND'; each command has examples at its end.";
    /// Documents with errors.
    DOCUMENTS = "FO-002", "The documents have errors.",
        "At least one document is not right. A controller never starts on documents that it does not understand \
         wholly, and keeps running on the old ones when changed files are wrong.",
        "Run 'failover validate PATH…': it lists every error of every file with file, line, column and a hint. \
         Each error has a code of its own (FO-1xx) with a page here.";
    /// A service nobody knows.
    NO_SERVICE = "FO-003", "There is no such service.",
        "The name is not among the services of the running controller, of the documents given with -f, or of the \
         journal.",
        "Run 'failover status' for the names. Names are case-sensitive: they are metadata.name of a \
         ProtectedService.";
    /// A state folder that cannot be used.
    STATE = "FO-010", "The state folder cannot be used.",
        "It does not exist and cannot be made, or this user may not write to it. It holds the journal, the lists of \
         recipients and the control socket.",
        "Make it, and give it to the user that runs the controller: install -d -o failover -m 0700 \
         /var/lib/failover. Or name another with --state DIR or $FAILOVER_STATE.";
    /// No home to put the state in.
    NO_HOME = "FO-011", "There is no place for the state folder.",
        "Neither --state, nor $FAILOVER_STATE, nor $XDG_STATE_HOME, nor $HOME says where it should be.",
        "Name it with --state DIR. A service manager's unit has none of these variables unless it sets them.";
    /// Nobody listens on the socket.
    NO_CONTROLLER = "FO-012", "No controller answers.",
        "The controller does not run, runs with another state folder or another socket, or has just been killed and \
         left its socket behind.",
        "Start it with 'failover run -f DIR'. If it runs elsewhere, use the same --state or --socket as it does. \
         'plan', 'check', 'announce preview' and 'runbook show' work without a controller when given -f DIR; \
         'journal' and 'timeline' always do.";
    /// Somebody listens already.
    CONTROLLER_RUNS = "FO-013", "Another controller runs already.",
        "A controller answers at this socket. Two controllers on one journal would contradict each other.",
        "Use the one that runs ('failover status'), or stop it first. Only a controller of other services may have a \
         state folder of its own (--state): two controllers of one service would both act.";
    /// A socket that cannot be made.
    SOCKET = "FO-014", "The control socket cannot be made.",
        "Its folder belongs to somebody else, is open to others, or the path is longer than the system allows (about \
         100 bytes). Whoever reaches the socket commands the controller, so its folder must be its owner's alone.",
        "chmod 0700 the folder and make the controller's user its owner, or name a shorter path with --socket.";
    /// The controller runs as somebody else.
    PEER = "FO-015", "The controller does not talk to this user.",
        "The control socket serves the user that runs the controller, and root.",
        "Run the command as that user, whom 'ls -l' of the socket names: sudo -u USER failover status.";
    /// The other end speaks another version.
    VERSION = "FO-016", "The controller has another version.",
        "The program was updated while the controller kept running, or the other way round.",
        "Restart the controller, or use the program that it was started from. A restart is harmless: it goes on \
         where it stopped.";
    /// The controller went away.
    LOST = "FO-017", "The controller went away before it answered.",
        "It was stopped or killed. Whether the command took effect is not known.",
        "Look at 'failover timeline SERVICE': what is not in the journal did not happen.";
    /// Nobody said who they are.
    TOKEN_NEEDED = "FO-020", "A personal token is needed.",
        "This command goes into the journal under a person's name, and approvals count people, so the controller has \
         to know who speaks.",
        "Set $FAILOVER_TOKEN, or give --token-file PATH, or run it on a terminal to be asked. Who has none yet: \
         'failover token' prints one and the hash that goes into the documents at spec.team.people[].tokenHash.";
    /// A token that is nobody's.
    TOKEN_UNKNOWN = "FO-021", "The token belongs to nobody.",
        "No person in the service's team has the hash of this token. It was mistyped, was replaced, or the documents \
         with it were not read yet.",
        "Compare 'failover token --hash-of FILE' with spec.team.people[].tokenHash, then send the controller SIGHUP \
         so that it reads the documents again.";
    /// A token that cannot be read.
    TOKEN_READ = "FO-022", "The token cannot be read.",
        "The file given with --token-file is missing, empty, or not this user's to read, or the terminal was closed.",
        "Check the path and its rights (0600 is right).";
    /// The engine said no.
    REFUSED = "FO-023", "The controller refused.",
        "The command is understood but not possible now: the reason is in the message.",
        "The help beside the message names the command that shows more. 'failover explain SERVICE' says what stands in \
         the way of a run, and with what evidence.";
    /// A person said no to the prompt.
    NOT_CONFIRMED = "FO-024", "It was not confirmed.",
        "The command asks before it begins, and the answer was not 'yes', or there was no terminal to ask on.",
        "Answer 'yes', or give --yes where nobody can answer.";
    /// No journal there.
    NO_JOURNAL = "FO-030", "There is no journal.",
        "No controller ever ran with this state folder, or it is another one.",
        "Name the right folder with --state DIR.";
    /// Somebody else's journal.
    JOURNAL_LOCKED = "FO-031", "The journal is in use.",
        "Another controller holds it. One journal has one writer.",
        "Stop the other controller, or use a state folder of its own.";
    /// A chain that does not fit.
    JOURNAL_BROKEN = "FO-032", "The journal is broken.",
        "A record's hash does not fit the one before it: the file was changed by hand, restored in part, or damaged \
         by its disk. Every record before the named sequence is whole.",
        "Stop the controller and move the file aside; keep it. Make the journal anew from its copy in the object \
         store: 'failover journal restore --from URL'. 'failover journal verify --from FILE' looks at an export.";
    /// A journal of the future.
    JOURNAL_NEWER = "FO-033", "The journal was written by a newer version.",
        "An older program must not write to it: it would not understand what it reads.",
        "Use the newer program again. Nothing of what it wrote is lost.";
    /// No room.
    JOURNAL_FULL = "FO-034", "The journal's disk is full.",
        "Nothing is done that cannot be recorded first, so the controller stops acting, says so and pages.",
        "Free space; it goes on by itself. Nothing that was recorded is lost.";
    /// Anything else about the journal.
    JOURNAL = "FO-035", "The journal cannot be used.",
        "The file cannot be opened, read or written; the cause is in the message.",
        "Check the rights of the state folder and the health of its disk.";
    /// A file is in the way.
    EXISTS = "FO-036", "A file is in the way.",
        "The command writes new files only and overwrites nothing.",
        "Move the file away, or name another place.";
    /// A file cannot be written or read.
    FILE = "FO-037", "A file cannot be read or written.",
        "The path does not exist, or this user may not use it, or the disk is full.",
        "Check the path and its rights.";
    /// A file that is no export.
    EXPORT = "FO-038", "The file is no exported journal.",
        "A line of it does not have the shape that 'failover journal export' writes.",
        "Name a file that 'failover journal export' wrote, or a segment of a journal's copy.";
    /// A copy that cannot be restored.
    COPY = "FO-039", "The journal cannot be restored from its copy.",
        "The copy cannot be reached, is empty or not whole, or there is a journal in the state folder already.",
        "The cause is in the message. A journal is restored only where there is none: move the old file aside first.";
    /// Readiness is not green.
    NOT_READY = "FO-040", "A failover would suffer.",
        "At least one item of the check is 'fail' or 'unknown'. What could not be told is never green.",
        "Each item says what to do. 'automatic' mode is earned by a check that is green.";
    /// A broken policy.
    BACKUPS = "FO-041", "The backups break their policy.",
        "A backup is too old, missing, not encrypted, not where it should be, or was found to be none; or a place of \
         backups could not be asked. A failover does not suffer, but the day on which the standby is lost as well, or \
         a mistake was replicated, does.",
        "Do what stands beside each rule that is listed. 'failover help backups' has the rules.";
    /// A backup that is none.
    BAD_BACKUP = "FO-042", "The backup was not restored with success.",
        "It was fetched and restored into a PostgreSQL of its own. Either it is damaged, incomplete or does not answer as \
         the policy asks: then it counts as no backup any more. Or that could not be tried to the end, for a reason of \
         this host's: then nothing is known of it.",
        "The message says which it is. Take another backup where it is bad, and verify that one; an older one is tried \
         with '--copy ID'.";
    /// No plan can be made.
    PLAN = "FO-050", "No plan can be made.",
        "The runbook has no steps for this kind of run, there is no site to go to, or the linter found an error.",
        "'failover validate' and the message say which.";
    /// The database of `init`.
    INIT_DATABASE = "FO-060", "A database cannot be looked at.",
        "The connection string does not lead to a PostgreSQL server, its user may not log in, or TLS fails. The \
         standby may be out of reach, the primary must answer.",
        "Try the same string with psql. A password is read from the string itself, $PGPASSWORD, or the password file \
         ($PGPASSFILE, ~/.pgpass), which nobody else may read.";
    /// Not a pair.
    INIT_PAIR = "FO-061", "These are not a primary and its standby.",
        "One must take writes, the other must be in recovery, and both must have the same system identifier. Which is \
         named first does not matter.",
        "Run 'SELECT pg_is_in_recovery(), system_identifier FROM pg_control_system()' on each. If two copies of one \
         system take writes, stop the wrong one at once.";
    /// The DNS of `init`.
    INIT_DNS = "FO-062", "The public name cannot be looked up.",
        "There is no such name, it has neither A, AAAA nor CNAME records, or no DNS server answered.",
        "Check the name with dig, name a server with --dns-server ADDRESS, or leave --host out to protect the database \
         alone.";
    /// The demo's network.
    DEMO_LOOPBACK = "FO-070", "The demo needs more loopback addresses.",
        "It gives each site an address of its own in 127.0.0.0/8. Linux has them all; macOS has only 127.0.0.1 until \
         told otherwise.",
        "On macOS: sudo ifconfig lo0 alias 127.0.0.2, and so on for each address that the message names.";
    /// The demo's parts.
    DEMO_START = "FO-071", "A part of the demo did not start.",
        "PostgreSQL or one of the demo's own parts ended or did not answer in time; its last words are in the message.",
        "Try --without-database to leave PostgreSQL out, and --log debug for more.";
    /// The demo's end.
    DEMO_OUTCOME = "FO-072", "The demo ended otherwise than it should.",
        "The controller did not do what this outage calls for, a written order is missing without being explained, or \
         a message held no working URL.",
        "Run it again with --keep and look around; a report with the journal's export is welcome.";
    /// Stopped by hand.
    DEMO_STOPPED = "FO-073", "The demo was stopped before its end.",
        "Ctrl-C or SIGTERM. Everything that it started was stopped and its folder removed.",
        "Nothing is to be done.";
    /// A simulated history broke a rule.
    SIMULATION = "FO-074", "A simulated history broke a rule.",
        "A fault of failover, or a service that its documents do not protect as its rules say.",
        "Play the seed again with 'failover simulate --from SEED --seeds 1', and report it with the version.";
    /// Simulated histories that saw too little.
    UNCOVERED = "FO-075", "Simulated histories saw too little.",
        "'failover simulate --cover' is for whoever changes this program: a situation that can be reached was in none of \
         the histories, so nothing is known of it. The lines 'not seen' name it.",
        "Have scenarios drawn that lead there (src/sim), or play more of them.";
    /// Standard output is gone.
    OUTPUT = "FO-080", "The result could not be printed.",
        "Standard output is closed or its disk is full.",
        "Check where the output goes.";
    /// The listener's address.
    LISTEN = "FO-081", "The listener's address cannot be used.",
        "Another program listens there, the address is not this host's, or the port needs privileges.",
        "Name another with --listen or --metrics ADDRESS:PORT (the message says which address), or off.";
    /// The controller cannot start.
    START = "FO-082", "The controller cannot start.",
        "An adapter could not be made from its documents, or the system refused something; the cause is in the message.",
        "Run 'failover validate' and 'failover check -f DIR'.";
    /// A certificate that cannot be used.
    CERTIFICATE = "FO-083", "A certificate cannot be used.",
        "The file is missing, is not this user's to read, holds no PEM, or the key in it is another certificate's.",
        "Check --tls-cert or --desk-cert (the chain, the server's own certificate first) and --tls-key or --desk-key at \
         the controller, --ca at an observer. After a renewal send the controller SIGHUP: it reads both files again.";
    /// A key that cannot be used.
    VANTAGE_KEY = "FO-084", "The key of a vantage point cannot be used.",
        "The variable or file that the reference names is missing or empty, or what stands there is too weak: a key \
         needs 32 random bytes.",
        "Make one with 'openssl rand -hex 32' and give the same one to the observer (--key) and to the controller \
         (spec.vantagePoints[].remote.key). It is read again each time it is used.";
    /// The controller does not know this observer, or the observer does not know this controller.
    VANTAGE_REFUSED = "FO-085", "Controller and observer do not know each other.",
        "The controller has no remote vantage point of this name with this key, or something else answers at its \
         address. Which of the two it is, is not told to whoever asks. The observer goes on trying, so it reports as \
         soon as both sides agree.",
        "Compare --name with spec.vantagePoints[].name and both keys with each other, byte by byte. The controller's \
         log and its metric failover_vantage_refused_total say why it refused.";
    /// A guard's document.
    GUARD_DOCUMENT = "FO-086", "The guard's document has an error.",
        "A field of guard.yaml is missing, unknown, there twice, or holds what it cannot. A guard never starts on a \
         document that it does not understand wholly.",
        "Correct it where the message says; 'failover guard run --help' names every field.";
    /// A guard that cannot work.
    GUARD = "FO-087", "The guard cannot work.",
        "Its key, its address, its state folder, the dead-man or the gate cannot be used, or a database server runs \
         that it did not start. The cause is in the message.",
        "Run 'failover guard prove -f guard.yaml' as root: it tries dead-man and gate on this host. A guard without a \
         promise is enrolled with 'failover guard init -f guard.yaml', once. A server that something else started \
         has to be stopped, and its unit disabled.";
    /// A journal of another host.
    ELSEWHERE = "FO-088", "The journal is another host's.",
        "It was made on another host, or restored from a copy. Two controllers on two copies of one journal would each \
         act on their own.",
        "Where the other controller is gone for good: failover takeover --reason '…'";
    /// Another controller took over.
    TAKEN_OVER = "FO-089", "Another controller leads now.",
        "'failover takeover' was called elsewhere with this journal's copy. This controller does nothing any more, and does \
         not begin again, since two of them would each act on their own.",
        "Stop this one for good, with its service. Where the takeover was a mistake: stop the other one, and take over \
         from the copy again, here, in an empty state folder.";
    /// No such page.
    NO_TOPIC = "FO-090", "There is no such help.",
        "It is neither a command, nor a topic, nor a code.",
        "'failover help' lists the topics.";
    /// The controller that is to be taken over from is there.
    STILL_WRITTEN = "FO-091", "The controller that is to be taken over from still writes.",
        "The journal's copy went on after it was restored here: whoever wrote it is not gone. Nothing was taken over, and \
         no controller of this host leads from what was restored.",
        "Stop the other controller for good, delete the journal that was restored here, and take over again.";
    /// No cluster.
    CLUSTER = "FO-092", "The cluster cannot be reached.",
        "There is no kubeconfig, it does not say how to log in, or the operator does not run in a pod.",
        "Name one with --kubeconfig or $KUBECONFIG, and try it with kubectl.";
    /// A replica that leads no more.
    REPLICA = "FO-093", "This replica of the operator does not lead.",
        "Another replica was elected or wrote to the journal, or the loop of a service ended. What it had begun is in the          journal, and whoever leads goes on with it.",
        "Nothing, where its Deployment starts it again. The log of the replica that leads says how it goes on.";
    /// Definitions of an older version.
    DEFINITIONS = "FO-094", "The cluster's definitions are older than this program.",
        "The API server would take out of documents what it has no definition of, without a word. Helm upgrades none.",
        "failover operator crds | kubectl apply --server-side -f -";
    /// The desk of `--server`.
    SERVER = "FO-095", "The controller's desk cannot be asked.",
        "Nothing answers at --server, its certificate is not trusted, or what answers there is no desk of this version.",
        "Name the address that 'failover run --desk-listen' or the chart's reach.desk is reached at, and with --server-ca who signed \
         its certificate; 'failover help desk' has an example.";
}
