// node browser.mjs novnc|xterm ORIGIN COOKIE CSRF KEYS [PASTE-LENGTH]
// Opens a console page in Debian's Chromium, waits for its picture, types, and says as JSON what happened.
import { createRequire } from 'node:module';

const modules = new URL('../../../target/browser/', import.meta.url);
const { chromium } = createRequire(modules)('playwright-core');
const [kind, origin, cookie, csrf, keys, pasteLength] = process.argv.slice(2);
const TIMEOUT = 60_000;

const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--ignore-certificate-errors'],
});
const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: { width: 820, height: 520 } });
await context.addCookies([{ name: 'PVEAuthCookie', value: encodeURIComponent(cookie), url: origin, secure: true }]);
const page = await context.newPage();
const reported = [];
page.on('console', (message) => reported.push(message.text()));
page.on('pageerror', (error) => reported.push(error.message));

// Pixels of the guest's text in noVNC's canvas.
const lit = () => {
    const canvas = document.querySelector('canvas');
    if (!canvas?.width) return 0;
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let count = 0;
    for (let at = 0; at < data.length; at += 4) {
        if (data[at] > 150 && data[at + 1] > 150 && data[at + 2] > 150) count += 1;
    }
    return count > 300 && count < 20_000 ? count : 0;
};

const result = {};
try {
    if (kind === 'novnc') {
        await page.goto(`${origin}/novnc/page.html?csrf=${encodeURIComponent(csrf)}`);
        await page.waitForFunction(lit, null, { timeout: TIMEOUT });
        result.before = await page.evaluate(lit);
        await page.click('canvas');
        await page.keyboard.type(keys, { delay: 50 });
        const more = `(${lit})() > ${result.before + 20}`;
        await page.waitForFunction(more, null, { timeout: TIMEOUT });
        result.after = await page.evaluate(lit);
    } else {
        await page.goto(`${origin}/xtermjs/page.html?csrf=${encodeURIComponent(csrf)}`);
        await page.waitForFunction(() => window.events?.includes('ready'), null, { timeout: TIMEOUT });
        await page.keyboard.type(keys);
        await page.waitForFunction((keys) => window.text().includes(keys), keys, { timeout: TIMEOUT });
        await page.evaluate((length) => {
            const line = '0123456789abcdef'.repeat(4);
            window.paste(line.repeat(Math.ceil(length / line.length)).slice(0, length));
        }, Number(pasteLength));
        await page.waitForFunction(() => window.text().includes('<pasted>'), null, { timeout: TIMEOUT });
    }
    await page.evaluate(() => window.disconnect());
    await page.waitForFunction(() => window.events.some((name) => /close|disconnect/.test(name)), null, { timeout: TIMEOUT });
} catch (error) {
    result.error = String(error);
}
result.events = await page.evaluate(() => window.events).catch(() => null);
await browser.close();
console.log(JSON.stringify({ ...result, reported }));
