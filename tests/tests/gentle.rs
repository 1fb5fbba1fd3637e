//! Updates that leave room for what the host is there for.

use anyhow::{Context, Result};
use upright_tests::fixture::Fixture;
use upright_tests::programs::upright;
use upright_tests::simulated::Sizes;

/// How long the last update of a host took, and how many bytes it fetched and wrote.
fn last_update(host: &std::path::Path) -> Result<(u64, u64, u64)> {
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
