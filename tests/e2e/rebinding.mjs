// node rebinding.mjs URL RULES [PORT]
// Opens a page in Debian's Chromium whose names lead where RULES say (--host-resolver-rules), and says as JSON what the
// page's document and its script got to read.
import { createRequire } from 'node:module';

const { chromium } = createRequire(new URL('../../target/browser/', import.meta.url))('playwright-core');
const [url, rules] = process.argv.slice(2);
const TIMEOUT = 60_000;

const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--ignore-certificate-errors',
        `--host-resolver-rules=${rules}`],
});
const page = await (await browser.newContext({ ignoreHTTPSErrors: true })).newPage();
const result = {};
try {
    const answer = await page.goto(url, { timeout: TIMEOUT });
    result.status = answer.status();
    result.text = await page.evaluate(() => document.body.innerText);
    // The page of a stranger sets this once its script has read something of another server.
    if (result.text.includes('waits')) {
        console.log(JSON.stringify({ loaded: true }));
        await page.waitForFunction(() => window.stolen, null, { timeout: TIMEOUT });
        result.read = await page.evaluate(() => window.stolen);
    }
} catch (error) {
    result.error = String(error);
}
await browser.close();
console.log(JSON.stringify(result));
