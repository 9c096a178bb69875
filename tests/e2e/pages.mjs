// node pages.mjs ORIGIN: opens pages in Debian's Chromium. Stdin is a JSON array of { path, cookies, phone }; stdout one of
// what their scripts saw: `Page`, the title, and each error or injected text.
import { createRequire } from 'node:module';

const { chromium } = createRequire(new URL('../../target/browser/', import.meta.url))('playwright-core');
const [origin] = process.argv.slice(2);
const PHONE = 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1';

let text = '';
for await (const chunk of process.stdin) text += chunk;
const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--ignore-certificate-errors'],
});
const results = [];
try {
    for (const { path, cookies, phone } of JSON.parse(text)) {
        const device = phone ? { userAgent: PHONE, viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true } : {};
        const context = await browser.newContext({ ignoreHTTPSErrors: true, ...device });
        const all = Object.entries(cookies).map(([name, value]) => ({ name, value, url: origin, secure: true }));
        await context.addCookies(all);
        const page = await context.newPage();
        const errors = [];
        page.on('pageerror', (error) => errors.push(error.message));
        page.on('dialog', (dialog) => { errors.push(`dialog ${dialog.message()}`); dialog.dismiss(); });
        const answer = await page.goto(origin + path, { waitUntil: 'load', timeout: 60_000 });
        const seen = await page.evaluate(() => ({
            values: window.Page ?? null,
            title: document.title,
            elements: [...document.querySelectorAll('*')].map((element) => element.localName).join(' '),
        }));
        results.push({ status: answer.status(), ...seen, errors });
        await context.close();
    }
    console.log(JSON.stringify(results));
} catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
}
await browser.close();
