// node panel.mjs PANEL TARGET cookie|token|none TICKET CSRF TOKEN
// Opens panel.html of the origin PANEL in Debian's Chromium, where a user is logged in at TARGET, and lets it act there.
// All names of example.com and example.net are this machine.
import { createRequire } from 'node:module';

const modules = new URL('../../../target/browser/', import.meta.url);
const { chromium } = createRequire(modules)('playwright-core');
const [panel, target, credential, ticket, csrf, token] = process.argv.slice(2);

const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium',
    args: [
        '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--ignore-certificate-errors',
        '--host-resolver-rules=MAP *.example.com 127.0.0.1,MAP *.example.net 127.0.0.1',
    ],
});
try {
    const context = await browser.newContext({ ignoreHTTPSErrors: true });
    if (credential === 'token') {
        // No page can add this to a websocket; an application with a built-in browser can.
        await context.setExtraHTTPHeaders({ Authorization: `PVEAPIToken=${token}` });
    } else {
        const value = encodeURIComponent(ticket);
        await context.addCookies([{ name: 'PVEAuthCookie', value, url: target, secure: true, sameSite: 'Lax' }]);
    }
    const page = await context.newPage();
    await page.goto(`${panel}/pve2/js/panel.html`);
    const act = ([target, credential, csrf, token]) => window.act(target, credential, csrf, token);
    console.log(JSON.stringify(await page.evaluate(act, [target, credential, csrf, token])));
} finally {
    await browser.close();
}
