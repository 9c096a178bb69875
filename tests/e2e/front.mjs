// node front.mjs ORIGIN…
// Opens the page front.html of each origin in Debian's Chromium; says as JSON what came of login, upload and console.
// pve.example.com is this machine.
import { createRequire } from 'node:module';

const modules = new URL('../../target/browser/', import.meta.url);
const { chromium } = createRequire(modules)('playwright-core');

const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: [
        '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--ignore-certificate-errors',
        '--host-resolver-rules=MAP *.example.com 127.0.0.1',
    ],
});
try {
    const reported = [];
    for (const origin of process.argv.slice(2)) {
        const context = await browser.newContext({ ignoreHTTPSErrors: true });
        const page = await context.newPage();
        await page.goto(`${origin}/pve2/js/front.html`);
        reported.push(await page.evaluate(() => everything().catch(String)));
        await context.close();
    }
    console.log(JSON.stringify(reported));
} finally {
    await browser.close();
}
