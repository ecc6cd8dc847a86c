// How a program tells which of its checks are well: a line each, and 1 as its exit code if one is not.

/** Runs each check; after one that failed `mend` removes what it left. */
export async function run(checks, mend = async () => {}) {
  let failed = 0;
  for (const [name, check] of Object.entries(checks)) {
    const begun = Date.now();
    try {
      await check();
      console.log(`ok      ${name} (${((Date.now() - begun) / 1000).toFixed(1)} s)`);
    } catch (error) {
      failed = 1;
      console.log(`FAILED  ${name}\n${error.stack}`);
      await mend();
    }
  }
  process.exit(failed);
}
