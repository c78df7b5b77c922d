// @ts-check
/**
 * What the signed-in customer may, for showing and hiding what a page offers. It decides nothing: the server does, at
 * each request. An ES module without dependencies; `docs/how-to/show-entitlements-in-a-front-end.md` is its manual.
 *
 * @typedef {object} Entitlement
 * @property {string} name as billing calls it
 * @property {boolean} allowed what a check without a quantity says
 * @property {string} reason
 * @property {string | null} type "Feature", "Quantity" or "Credits"
 * @property {string | null} units
 * @property {string | null} limit this number and the next two are exact, as text
 * @property {string | null} used
 * @property {string | null} remaining
 * @property {boolean} unlimited
 * @property {string | null} active_from ISO 8601
 * @property {string | null} expires_at ISO 8601
 *
 * @typedef {object} Known what `me/` answers, and `{% entitlements_json %}` puts into a page
 * @property {string | null} customer_id
 * @property {Entitlement[]} entitlements
 */

const NOBODY = [401, 403, 404]; // signed out, or without a customer
const REFUSED = [402, 403]; // by a gate: what is known here may be old

export class Entitlements {
  /** @type {ReadonlyMap<string, Entitlement>} replaced as a whole by each change */
  all = new Map();
  /** @type {string | null} */
  customerId = null;
  /** Whether the last `refresh()` could not learn the truth: `all` is what was known before. */
  isStale = false;

  /** @type {string} */ #url;
  /** @type {string | null} */ #etag = null;
  /** @type {Promise<boolean> | null} */ #refreshing = null;
  /** @type {Set<() => void>} */ #listeners = new Set();

  /**
   * @param {string} url where `me/` is
   * @param {Known | null} [known] what is known already
   */
  constructor(url, known = null) {
    this.#url = url;
    if (known) this.#learn(known);
  }

  /**
   * Begin with what `{% entitlements_json %}` left in the page.
   *
   * @param {string} url where `me/` is
   * @param {string} [id] of the element
   */
  static fromPage(url, id = "entitlements") {
    const element = document.getElementById(id);
    if (!element) throw new Error(`there is no {% entitlements_json "${id}" %} in this page`);
    return new Entitlements(url, JSON.parse(element.textContent ?? ""));
  }

  /**
   * Whether the customer may; of what is counted, so much.
   *
   * @param {string} name
   * @param {number | string} [quantity]
   * @returns {boolean}
   */
  has(name, quantity) {
    const found = this.all.get(name);
    if (!found?.allowed) return false;
    if (quantity === undefined || found.unlimited) return true;
    return found.remaining !== null && Number(found.remaining) >= Number(quantity);
  }

  /**
   * How much is left: Infinity without a limit, 0 of what the customer does not have, null of what is not counted.
   *
   * @param {string} name
   * @returns {number | null}
   */
  remaining(name) {
    const found = this.all.get(name);
    if (!found) return 0;
    if (found.unlimited) return Infinity;
    return found.remaining === null ? null : Number(found.remaining);
  }

  /**
   * Ask the server again; those who ask at once share one request.
   *
   * @returns {Promise<boolean>} whether the truth was learned
   */
  refresh() {
    this.#refreshing ??= this.#ask().finally(() => (this.#refreshing = null));
    return this.#refreshing;
  }

  /**
   * `fetch` which, where a gate refuses, has what is known here renewed behind it.
   *
   * @param {RequestInfo | URL} input
   * @param {RequestInit} [init]
   * @returns {Promise<Response>}
   */
  async fetch(input, init) {
    const response = await fetch(input, init);
    if (REFUSED.includes(response.status)) void this.refresh();
    return response;
  }

  /**
   * Call whenever something changes, as React's `useSyncExternalStore` wants it.
   *
   * @param {() => void} listener
   * @returns {() => void} ends it
   */
  subscribe = (listener) => {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  };

  /**
   * Show what is marked `data-entitled="name"`, perhaps with `data-quantity="5"`, only where the customer may, and what
   * is marked `data-not-entitled="name"` only where not: now, and at each change.
   *
   * @param {ParentNode} [root]
   * @returns {() => void} ends it
   */
  bind(root = document) {
    const show = () => {
      for (const element of root.querySelectorAll("[data-entitled], [data-not-entitled]")) {
        const { entitled, notEntitled, quantity } = /** @type {HTMLElement} */ (element).dataset;
        const may = this.has(entitled ?? notEntitled ?? "", quantity);
        element.toggleAttribute("hidden", entitled === undefined ? may : !may);
      }
    };
    show();
    return this.subscribe(show);
  }

  async #ask() {
    const headers = { Accept: "application/json", ...(this.#etag && { "If-None-Match": this.#etag }) };
    try {
      const response = await fetch(this.#url, { headers, cache: "no-store" });
      if (response.ok) this.#learn(await response.json(), response.headers.get("ETag"));
      else if (NOBODY.includes(response.status)) this.#learn({ customer_id: null, entitlements: [] });
      else if (response.status !== 304) return this.#miss();
    } catch {
      return this.#miss(); // offline, or no JSON
    }
    if (this.isStale) {
      this.isStale = false;
      this.#tell();
    }
    return true;
  }

  /** @param {Known} known @param {string | null} [etag] */
  #learn(known, etag = null) {
    this.all = new Map(known.entitlements.map((one) => [one.name, one]));
    this.customerId = known.customer_id;
    this.#etag = etag;
    this.isStale = false;
    this.#tell();
  }

  #miss() {
    this.isStale = true;
    this.#tell();
    return false;
  }

  #tell() {
    for (const listener of [...this.#listeners]) listener();
  }
}
