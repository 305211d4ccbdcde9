//! Whose a connection is: only processes of the worker's own group may speak for it.
//! The kernel knows: a socket has an inode, and a process that holds it has a descriptor that says so (proc(5)).

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    sync::Weak,
};

use tokio::net::TcpStream;

use super::Api;

/// Whether the other end of this connection is held by a process of the worker's group.
pub async fn is_of_group(api: &Api, stream: &TcpStream) -> bool {
    let worker = api.worker.get().and_then(Weak::upgrade);
    let (Some(worker), Ok(theirs), Ok(ours)) = (worker, stream.peer_addr(), stream.local_addr())
    else {
        return false;
    };
    let group = worker.pid;
    let looked = tokio::task::spawn_blocking(move || holds(group, theirs, ours)).await;
    looked.is_ok_and(|found| found.unwrap_or(false))
}

/// Whether a process of the group holds the socket at `theirs` that is connected with `ours`. Blocks.
fn holds(group: u32, theirs: SocketAddr, ours: SocketAddr) -> Option<bool> {
    let (SocketAddr::V4(theirs), SocketAddr::V4(ours)) = (theirs, ours) else {
        return None;
    };
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let link = format!("socket:[{}]", inode(&table, theirs, ours)?);
    // Mostly it is the process that we started.
    Some(has_open(group, &link) || members(group).any(|member| has_open(member, &link)))
}

/// The inode of a socket, in the words of `/proc/net/tcp`.
fn inode(table: &str, local: SocketAddrV4, remote: SocketAddrV4) -> Option<&str> {
    let (local, remote) = (written(local), written(remote));
    table.lines().find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_it = fields.next()? == local && fields.next()? == remote;
        is_it.then(|| fields.nth(6)).flatten()
    })
}

/// An address as that table writes it: the bytes of the address as one number of this machine, in hexadecimal.
fn written(address: SocketAddrV4) -> String {
    let bytes: [u8; 4] = Ipv4Addr::octets(address.ip());
    format!("{:08X}:{:04X}", u32::from_ne_bytes(bytes), address.port())
}

/// Processes of a group besides the one that it is named after.
fn members(group: u32) -> impl Iterator<Item = u32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers.filter(move |number| *number != group && is_in(*number, group))
}

/// Reads `stat`: its fifth field is the group; the second, a name in brackets, may hold anything.
fn is_in(process: u32, group: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let behind = stat.rsplit_once(") ").map_or("", |(_, behind)| behind);
    let found = behind.split(' ').nth(2);
    found.and_then(|found| found.parse().ok()) == Some(group)
}

fn has_open(process: u32, link: &str) -> bool {
    let open = fs::read_dir(format!("/proc/{process}/fd"));
    open.into_iter().flatten().flatten().any(|descriptor| {
        fs::read_link(descriptor.path()).is_ok_and(|target| target.as_os_str() == link)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_connection_of_this_process_is_its_own_and_nobody_elses() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let ours = listener.local_addr().unwrap();
        let client = TcpStream::connect(ours).unwrap();
        let theirs = client.local_addr().unwrap();
        let group = u32::try_from(rustix::process::getpgrp().as_raw_nonzero().get()).unwrap();
        assert_eq!(holds(group, theirs, ours), Some(true));
        assert_eq!(holds(1, theirs, ours), Some(false));
    }

    #[test]
    fn the_table_is_read_by_both_ends() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 7 1\n\
             1: 0100007F:9C40 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 42 1\n";
        let address = |port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        assert_eq!(inode(table, address(0x9c40), address(0x1f90)), Some("42"));
        assert_eq!(inode(table, address(0x9c40), address(1)), None);
    }
}
