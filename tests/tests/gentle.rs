//! Updates that leave room for what the host is there for.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use upright_tests::fixture::Fixture;
use upright_tests::programs::{folder, upright};
use upright_tests::server::Fault;
use upright_tests::simulated::Sizes;

/// How long the last update of a host took, and how many bytes it fetched and wrote.
fn last_update(host: &Path) -> Result<(u64, u64, u64)> {
    let ran = upright(host, &["update", "--json"])?;
    assert_eq!(ran.status, 0, "{ran:?}");
    let told = ran.json()?;
    let way = &told["history"]["outcome"]["way"];
    let number = |key: &str| way[key].as_u64().with_context(|| format!("no {key} in {told}"));
    Ok((number("milliseconds")?, number("fetched")?, number("written")?))
}

#[test]
fn an_update_keeps_below_the_rates_that_the_host_sets() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    for (name, limits, rate, of_fetched) in [
        ("fetched", "fetch-rate = \"32KiB\"", 32 << 10, true),
        ("written", "write-rate = \"4MiB\"", 4 << 20, false),
    ] {
        let host = fixture.host_with(name, &format!("[limits]\n{limits}\n"), Sizes::default())?;
        let (milliseconds, fetched, written) = last_update(&host)?;
        let bytes = if of_fetched { fetched } else { written };
        // A tenth of it may be metadata, or what the ESP takes.
        let least = bytes * 900 / rate;
        assert!(least > 500 && milliseconds >= least, "{name}: {bytes} bytes in {milliseconds} ms");
    }
    Ok(())
}

/// How often a round of the service says that it is alive.
fn signs_of_life(host: &Path) -> Result<usize> {
    let socket = host.join("notify");
    let manager = UnixDatagram::bind(&socket)?;
    let mut service = Command::new(folder()?.join("upright"));
    service.arg("--root").arg(host).args(["run", "--once"]).env("NOTIFY_SOCKET", &socket);
    std::thread::scope(|scope| {
        // What nobody takes would keep the service waiting.
        let count = scope.spawn(|| {
            let (mut signs, mut buffer) = (0, [0; 512]);
            loop {
                match manager.recv(&mut buffer)? {
                    0 => return std::io::Result::Ok(signs),
                    length => signs += usize::from(&buffer[..length] == b"WATCHDOG=1\n"),
                }
            }
        });
        let ended = service.output();
        UnixDatagram::unbound()?.send_to(&[], &socket)?;
        let signs = count.join().map_err(|_| anyhow::anyhow!("the reader panicked"))??;
        println!("{:?}", ended?);
        Ok(signs)
    })
}

#[test]
fn what_takes_long_is_not_taken_for_what_hangs() -> Result<()> {
    let fixture = Fixture::new()?;
    fixture.build(&["publish", "1.1.0"])?;
    let slow = fixture.host_with("slow", "[limits]\nfetch-rate = \"8KiB\"\n", Sizes::default())?;
    assert!(signs_of_life(&slow)? > 3);
    let far = fixture.host_with("far", "", Sizes::default())?;
    for path in ["payloads/", "deltas/"] {
        fixture.server.spoil(path, Fault::Trickle(1 << 10));
    }
    assert!(signs_of_life(&far)? > 3);
    let patient = fixture.host_with("patient", "[limits]\npatience = \"10s\"\n", Sizes::default())?;
    for path in ["payloads/", "deltas/"] {
        fixture.server.spoil(path, Fault::Status(503));
    }
    assert!(signs_of_life(&patient)? > 2);
    Ok(())
}
