// The admin API as this page calls it. Owns the token: sessionStorage and the Authorization header, nowhere else.

const KEY = "rcache.token";
const PATIENCE = 10000;

/** An answer that is not what was asked for; `status` is 0 when there was none at all. */
export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => sessionStorage.setItem(KEY, text),
  clear: () => sessionStorage.removeItem(KEY),
};

/**
 * Call the API; paths are relative to the page, wherever that is mounted.
 * Returns the status, the JSON and how far this browser's clock is behind the server's, in seconds.
 */
export async function call(path, { body, method = "GET", signal, using = token.get() } = {}) {
  const headers = { Accept: "application/json" };
  if (using) headers.Authorization = `Bearer ${using}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const patience = AbortSignal.timeout(PATIENCE);
  let response;
  let answer;
  try {
    response = await fetch(new URL(path, document.baseURI), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      redirect: "manual",
      signal: signal ? AbortSignal.any([signal, patience]) : patience,
    });
    answer = await response.text();
  } catch {
    if (signal?.aborted) throw new DOMException("given up", "AbortError");
    const late = patience.aborted ? "It took longer than ten seconds." : "It could not be reached.";
    throw new ApiError(0, `The app does not answer. ${late}`);
  }
  // A guard of the app's own may send people to its sign-in page.
  const status = response.type === "opaqueredirect" ? 401 : response.status;
  const data = parsed(answer);
  if (status >= 400 || data === null) throw new ApiError(status, data?.message ?? described(status));
  return { status, data, skew: skewOf(response) };
}

function parsed(text) {
  try {
    const data = JSON.parse(text);
    return typeof data === "object" ? data : null;
  } catch {
    return null;
  }
}

function described(status) {
  if (status >= 500) return `The app failed to answer (HTTP ${status}).`;
  if (status === 401) return "A token is needed.";
  return `The app gave an answer that this page does not understand (HTTP ${status}).`;
}

function skewOf(response) {
  const date = Date.parse(response.headers.get("Date") ?? "");
  return Number.isNaN(date) ? 0 : (date - Date.now()) / 1000;
}
