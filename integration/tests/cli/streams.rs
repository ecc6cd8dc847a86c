//! Input, output and terminals: bytes arrive whole, in order, and end when they should.

use anyhow::{Result, ensure};
use integration::harness::{Case, case};
use integration::lab::Lab;
use integration::pool::Pool;

use crate::{SOON, contains, noise};

/// More than all buffers on the way together.
const MUCH: usize = 20 << 20;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        case("a_shell_on_a_terminal_works_and_ends", shell),
        case("a_terminals_size_is_kept_and_changes", resize),
        case("much_input_comes_back_unchanged_from_run", through_run),
        case("much_input_comes_back_unchanged_from_exec", through_exec),
        case("input_that_ends_ends_the_command", input_ends),
        case("attach_gives_output_and_exit_code", attach),
        case("detach_keys_leave_the_container_running", detach),
        case("many_short_runs_lose_no_output", short_runs),
    ]
}

fn shell(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let mut shell = pool.on_terminal("run -it --rm --name=it busybox sh")?;
    shell.expect("/ # ", SOON)?;
    shell.send("echo $((6*7))\n")?;
    shell.expect("42", SOON)?;
    let mut inner = pool.on_terminal("exec -it it sh")?;
    inner.expect("/ # ", SOON)?;
    inner.send("exit 4\n")?;
    ensure!(inner.finish(SOON)?.code == 4, "exec lost the exit code");
    // Ctrl-C goes to the command, not to the CLI.
    shell.send("sleep 600\n")?;
    integration::wait::until_true("the sleep", SOON, || {
        Ok(pool.ok("top it")?.contains("sleep 600"))
    })?;
    shell.send("\x03")?;
    shell.send("exit 3\n")?;
    ensure!(shell.finish(SOON)?.code == 3, "run lost the exit code");
    Ok(())
}

fn resize(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for line in ["run -it --rm --name=it busybox sh", "exec -it other sh"] {
        pool.ok("run -d --name=other busybox sleep 600")?;
        let mut shell = pool.on_terminal(line)?;
        shell.expect("/ # ", SOON)?;
        shell.send("stty size\n")?;
        shell.expect("40 120", SOON)?;
        shell.resize(31, 97)?;
        integration::wait::until_true("the new size", SOON, || {
            shell.send("stty size\n")?;
            Ok(shell.screen().contains("31 97"))
        })?;
        shell.send("exit\n")?;
        shell.finish(SOON)?;
        pool.ok("rm -f other")?;
    }
    Ok(())
}

fn through_run(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    same(&pool, "run -i --rm busybox cat")
}

fn through_exec(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("run -d --name=it busybox sleep 600")?;
    same(&pool, "exec -i it cat")
}

fn same(pool: &Pool, line: &str) -> Result<()> {
    let bytes = noise(MUCH);
    let output = pool.run_with(line, &bytes)?;
    ensure!(
        output.code == 0,
        "it ended with {}: {}",
        output.code,
        output.stderr
    );
    let came = output.stdout.as_bytes();
    ensure!(
        came.len() == bytes.len(),
        "{} of {} bytes came back",
        came.len(),
        bytes.len()
    );
    let first = came
        .iter()
        .zip(&bytes)
        .position(|(came, sent)| came != sent);
    ensure!(first.is_none(), "byte {first:?} is another");
    Ok(())
}

fn input_ends(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let counted = pool.run_with(
        "run -i --rm busybox sh -c 'wc -c; echo after; exit 6'",
        &[b'x'; 100_000],
    )?;
    ensure!(
        (counted.code, counted.stdout.as_str()) == (6, "100000\nafter\n"),
        "{counted:?}"
    );
    let none = pool.run("run -i --rm busybox wc -c")?;
    ensure!(none.stdout == "0\n", "{none:?}");
    // A command that does not read its input ends all the same.
    let deaf = pool.run_with("run -i --rm busybox sh -c 'exit 9'", &noise(1 << 20))?;
    ensure!(deaf.code == 9, "{deaf:?}");
    Ok(())
}

fn attach(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    pool.ok("create -i --name=it busybox sh -c 'read line; echo got $line; echo bad >&2; exit 3'")?;
    pool.ok("start it")?;
    let attached = pool.run_with("attach it", b"hello\n")?;
    ensure!(
        (
            attached.code,
            attached.stdout.as_str(),
            attached.stderr.as_str()
        ) == (3, "got hello\n", "bad\n"),
        "{attached:?}"
    );
    pool.refuses("attach it", "cannot attach to a stopped container")?;
    pool.ok("create -i --name=ready busybox sh -c 'read line; echo got $line'")?;
    let started = pool.run_with("start -ai ready", b"more\n")?;
    ensure!(started.stdout == "got more\n", "{started:?}");
    // A signal to the CLI is a signal to the container.
    pool.ok("run -d --name=trap busybox sh -c 'trap \"exit 8\" INT; while :; do echo tick; sleep 0.1; done'")?;
    let mut watching = pool.on_terminal("attach --no-stdin trap")?;
    watching.expect("tick", SOON)?;
    watching.send("\x03")?;
    ensure!(watching.finish(SOON)?.code == 8, "another exit code");
    pool.says("wait trap", "8")
}

fn detach(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    let mut shell = pool.on_terminal("run -it --name=it busybox sh")?;
    shell.expect("/ # ", SOON)?;
    shell.send("\x10\x11")?;
    shell.finish(SOON)?;
    pool.says("ps --format '{{.Names}} {{.State}}'", "it running")?;
    let mut again = pool.on_terminal("attach --detach-keys=ctrl-x,y it")?;
    again.send("echo $((6*7))\n")?;
    again.expect("42", SOON)?;
    again.send("\x18y")?;
    let said = again.finish(SOON)?.stdout;
    contains(&said, "read escape sequence")?;
    pool.says("ps --format '{{.Names}} {{.State}}'", "it running")
}

fn short_runs(lab: &Lab) -> Result<()> {
    let pool = Pool::over(lab)?;
    for turn in 0..12 {
        let line = format!("run --rm busybox sh -c 'echo {turn}; exit {turn}'");
        let output = pool.run(&line)?;
        ensure!(
            (output.code, output.stdout.trim()) == (turn, turn.to_string().as_str()),
            "turn {turn}: {output:?}"
        );
    }
    Ok(())
}
