// node cors.mjs PAGE URL…
// Opens PAGE in Debian's Chromium and lets it ask each URL with an API token; says as JSON what it was answered.
import { createRequire } from 'node:module';

const modules = new URL('../../target/browser/', import.meta.url);
const { chromium } = createRequire(modules)('playwright-core');
const [address, ...urls] = process.argv.slice(2);

const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--ignore-certificate-errors'],
});
try {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    const page = await context.newPage();
    await page.goto(address);
    const reported = await page.evaluate((urls) => Promise.all(urls.map((url) => {
        const headers = { Authorization: 'PVEAPIToken=root@pam!t=5f0c1a52-0000-4000-8000-000000000001' };
        return fetch(url, { headers }).then((answer) => answer.status, String);
    })), urls);
    console.log(JSON.stringify(reported));
} finally {
    await browser.close();
}
