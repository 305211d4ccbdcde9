//! Takes every power away from this process before a byte of a user's is read.
//! Four layers, so that one mistake is not the end: limits, an empty network namespace, Landlock, a system call filter.

use std::{collections::BTreeMap, io};

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, Scope,
};
use rustix::{
    process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit},
    thread::{UnshareFlags, set_no_new_privs},
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

/// Address space beyond the memory limit: our own binary, its stack, and what the allocator keeps.
const SPARE_ADDRESS_SPACE: u64 = 256 << 20;

/// What an engine without files, network and threads needs.
const ALLOWED: [i64; 29] = [
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendto,
    libc::SYS_close,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_futex,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_sched_yield,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_tgkill,
];

/// What the C library asks for without need, such as a time zone file: refused, not punished.
const REFUSED: [i64; 8] = [
    libc::SYS_openat,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_ioctl,
    libc::SYS_fcntl,
    libc::SYS_sched_getaffinity,
];

/// What could not be taken away, to be told to the server.
pub type Gaps = Vec<String>;

/// Seals the process. Fails only when the system call filter cannot be set, which everything else rests on.
pub fn seal(memory_mb: u64) -> io::Result<Gaps> {
    let mut gaps = Gaps::new();
    let mut note = |what: &str, done: Result<(), String>| {
        if let Err(why) = done {
            gaps.push(format!("{what}: {why}"));
        }
    };
    note(
        "limits",
        limit(memory_mb).map_err(|error| error.to_string()),
    );
    note("network namespace", leave_network());
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_no_new_privs(true)?;
    note("landlock", deny_files());
    filter_calls()?;
    Ok(gaps)
}

fn limit(memory_mb: u64) -> io::Result<()> {
    let address_space = (memory_mb << 20) * 4 + SPARE_ADDRESS_SPACE;
    let limits = [
        (Resource::As, address_space),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
        (Resource::Nproc, 0),
        (Resource::Memlock, 0),
        (Resource::Nofile, 16),
    ];
    for (resource, most) in limits {
        setrlimit(
            resource,
            Rlimit {
                current: Some(most),
                maximum: Some(most),
            },
        )?;
    }
    Ok(())
}

fn leave_network() -> Result<(), String> {
    // SAFETY: a new network namespace shares no memory and no descriptors with anybody.
    #[expect(
        unsafe_code,
        reason = "rustix marks every kind of unshare unsafe for one kind's sake"
    )]
    let unshare = |flags| unsafe { rustix::thread::unshare_unsafe(flags) };
    unshare(UnshareFlags::NEWNET)
        .or_else(|_| unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNET))
        .map_err(|error| error.to_string())
}

fn deny_files() -> Result<(), String> {
    let abi = ABI::V6;
    let rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(abi)))
        .and_then(|rules| rules.scope(Scope::from_all(abi)));
    let status = rules
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self);
    match status.map_err(|error| error.to_string())?.ruleset {
        landlock::RulesetStatus::NotEnforced => Err("this kernel has none".into()),
        landlock::RulesetStatus::PartiallyEnforced | landlock::RulesetStatus::FullyEnforced => {
            Ok(())
        }
    }
}

/// Two filters: the first refuses what is harmless, the second kills at anything that is neither allowed nor refused.
fn filter_calls() -> io::Result<()> {
    let arch: TargetArch = std::env::consts::ARCH
        .try_into()
        .map_err(io::Error::other)?;
    let no_rules = |calls: &[i64]| {
        calls
            .iter()
            .map(|call| (*call, Vec::new()))
            .collect::<BTreeMap<_, Vec<SeccompRule>>>()
    };
    let refuse = SeccompFilter::new(
        no_rules(&REFUSED),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        arch,
    );
    let mut known = no_rules(&ALLOWED);
    known.extend(no_rules(&REFUSED));
    // Memory that can be executed would let an attacker bring code of his own.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let not_executable = SeccompCondition::new(
            2,
            SeccompCmpArgLen::Dword,
            SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64),
            0,
        );
        let rule = not_executable
            .and_then(|condition| SeccompRule::new(vec![condition]))
            .map_err(io::Error::other)?;
        known.insert(call, vec![rule]);
    }
    let kill = SeccompFilter::new(
        known,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        arch,
    );
    for filter in [refuse, kill] {
        let program: BpfProgram = filter
            .and_then(TryInto::try_into)
            .map_err(io::Error::other)?;
        seccompiler::apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}
