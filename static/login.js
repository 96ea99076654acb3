/**
 * The login of the page: a token that the user types in, for a server with access rules.
 *
 * The token is in the memory of this page and nowhere else: a reload forgets it. It is sent as `Authorization`, and
 * never in an address.
 */

/** The server's root, also below a path of a proxy: this file is in its folder static. */
const ROOT = new URL("../", import.meta.url);

const $ = (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id));

/** Dispatches `login` when there is a new token. */
export class Login extends EventTarget {
  /** True if the server would take a token. */
  isOffered = false;

  #token = "";
  #isRefused = false;
  /** @type {Promise<string> | null} */
  #next = null;
  /** @type {(token: string) => void} */
  #give = () => {};

  constructor() {
    super();
    $("login").addEventListener("submit", (/** @type {Event} */ event) => {
      event.preventDefault();
      this.#enter($("token").value.trim());
    });
    $("log-in").addEventListener("click", () => this.ask("", true));
    // Nothing else forgets a token for sure, with all that was read with it.
    $("log-out").addEventListener("click", () => location.reload());
  }

  get isLoggedIn() {
    return this.#token !== "";
  }

  /** The token for a connection. After a refusal, it is the next one that the user types in. */
  token = () => {
    if (!this.#isRefused) return this.#token;
    this.#next ??= new Promise((resolve) => (this.#give = resolve));
    return this.#next;
  };

  /** `fetch` with the token. @type {typeof fetch} */
  fetch = async (address, init) => {
    const headers = new Headers(init?.headers);
    if (this.#token && !headers.has("Authorization")) headers.set("Authorization", `Bearer ${this.#token}`);
    const answer = await fetch(address, { ...init, headers });
    const sent = /^Bearer (.*)/.exec(headers.get("Authorization") ?? "")?.[1] ?? "";
    // A new token may have come while the answer to the old one was on its way.
    if (answer.status === 401 && sent === this.#token) this.#refuse(await detailOf(answer.clone()));
    return answer;
  };

  /** Learn from an answer whether a token would make a difference. @param {Response} answer */
  look(answer) {
    if (answer.headers.get("WWW-Authenticate")?.startsWith("Bearer")) this.#offer();
  }

  /** Show the form. @param {string} why @param {boolean} [isWanted] by the user, who goes on in the form */
  ask(why, isWanted) {
    this.#offer();
    $("login").hidden = false;
    $("login-why").textContent = why;
    if (isWanted || document.activeElement === document.body) $("token").focus();
  }

  /** @param {string} why */
  #refuse(why) {
    this.#isRefused = true;
    this.#token = "";
    this.ask(why);
    this.#show();
  }

  #offer() {
    this.isOffered = true;
    this.#show();
  }

  /** Try a token at once: a connection that was refused twice would not come back. @param {string} token */
  async #enter(token) {
    if (!token) return this.ask("Paste a token.", true);
    $("login-why").textContent = "";
    const why = await refusal(token);
    if (why) return this.ask(why, true);
    this.#token = token;
    this.#isRefused = false;
    $("token").value = "";
    $("login").hidden = true;
    $("log-out").focus();
    this.#show();
    this.#give(token);
    this.#next = null;
    this.dispatchEvent(new Event("login"));
  }

  #show() {
    $("session").hidden = !this.isOffered;
    $("log-out").hidden = !this.isLoggedIn;
    $("log-in").textContent = this.isLoggedIn ? "Change token" : "Log in";
    $("session-state").textContent = this.isLoggedIn ? `Logged in${until(this.#token)}` : "Not logged in";
  }
}

/** Why the server does not take a token; empty if it does. @param {string} token */
async function refusal(token) {
  try {
    const answer = await fetch(new URL("streams", ROOT), { headers: { Authorization: `Bearer ${token}` } });
    return answer.ok ? "" : await detailOf(answer);
  } catch (error) {
    // A token that fits in no header, or no network.
    return `The token could not be tried: ${error instanceof Error ? error.message : error}`;
  }
}

/** @param {Response} answer */
async function detailOf(answer) {
  try {
    return String((await answer.json()).detail ?? `The server answered ${answer.status}.`);
  } catch {
    return `The server answered ${answer.status}.`;
  }
}

/** The end of a token, for people, if it says one. @param {string} token */
function until(token) {
  try {
    const { exp } = JSON.parse(atob((token.split(".")[1] ?? "").replaceAll("-", "+").replaceAll("_", "/")));
    return Number.isFinite(exp) ? ` until ${new Date(exp * 1_000).toLocaleTimeString()}` : "";
  } catch {
    return ""; // not a JSON Web Token: nothing that this page could read
  }
}
