/** Requests to the server. What fails is an `ApiFailure` that says what to do about it. */

import { recall, remember } from "./stored.js";

const BASE = "/api/v1";

/**
 * A request that was not answered.
 * `code` is the API's, or `offline` where no server answered and `bad-answer` where something else
 * did; `retryAfter` is in seconds, 0 where the server did not say.
 */
export class ApiFailure extends Error {
  constructor({ status = 0, code, message = "", hint = "", retryAfter = 0 }) {
    super(message || code);
    Object.assign(this, { status, code, detail: message, hint, retryAfter });
  }
}

let key = recall("key", "", "sessionStorage");
let askForKey = null;

/** The API key that this tab was given, or none. */
export const currentKey = () => key;

/** Remembers an API key until the tab is closed. */
export function setKey(value) {
  key = value;
  remember("key", value || null, "sessionStorage");
}

/** Sets what asks the reader for a key: resolves to it, or to null. */
export function onKeyNeeded(ask) {
  askForKey = ask;
}

const headersOf = () => (key ? { Authorization: `Bearer ${key}` } : {});

/**
 * Sends a request; asks for a key where the server wants one.
 * @returns {Promise<Response>}
 */
export async function send(path, { method = "GET", json, form, signal } = {}) {
  for (;;) {
    const used = key;
    const headers = headersOf();
    let body = form;
    if (json !== undefined) {
      headers["Content-Type"] = "application/json";
      body = JSON.stringify(json);
    }
    let response;
    try {
      response = await fetch(`${BASE}${path}`, { method, headers, body, signal });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiFailure({ code: "offline" });
    }
    if (response.ok) return response;
    if (response.status === 401 && askForKey) {
      // Another request may have brought a new key meanwhile.
      const given = used === key ? await askForKey(used) : key;
      if (given) continue;
    }
    throw await failureOf(response);
  }
}

async function failureOf(response) {
  const given = Number(response.headers.get("Retry-After"));
  const known = { status: response.status, retryAfter: Number.isFinite(given) ? given : 0 };
  try {
    const { error } = await response.json();
    return new ApiFailure({ ...known, code: error.code, message: error.message, hint: error.hint });
  } catch {
    return new ApiFailure({ ...known, code: "bad-answer", message: `HTTP ${response.status}` });
  }
}

async function ask(path, options) {
  const response = await send(path, options);
  try {
    return await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiFailure({ status: response.status, code: "bad-answer" });
  }
}

function query(values) {
  const made = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) {
    for (const each of Array.isArray(value) ? value : [value]) {
      if (each !== null && each !== undefined && each !== "") made.append(name, String(each));
    }
  }
  return made.toString();
}

/** What is served and what can be asked of it. */
export const getInfo = () => ask("/info");

/** Hits of a search. */
export const search = (json, signal) => ask("/search", { method: "POST", json, signal });

/** Hits of a search by a file. */
export function searchByFile(file, { text, k, filter, explain }, signal) {
  const form = new FormData();
  form.append("file", file, file.name || "file");
  if (text) form.append("text", text);
  form.append("k", String(k));
  form.append("filter", JSON.stringify(filter));
  form.append("explain", String(explain));
  return ask("/search/upload", { method: "POST", form, signal });
}

/** Counts of tags, categories and languages. */
export const getFacets = (filter, signal) => ask(`/facets?${query(filter)}`, { signal });

/** A video's neighbours. */
export const getNeighbours = (id, k, explain, signal) =>
  ask(`/video/neighbours?${query({ id, k, explain })}`, { signal });

/** Groups of near duplicates. */
export const getGroups = (values, signal) => ask(`/groups?${query(values)}`, { signal });

/** Scored pairs, worst first. */
export const getPairs = (values, signal) => ask(`/pairs?${query(values)}`, { signal });

/** All videos in the plane. */
export const getMap = (signal) => ask("/map", { signal });

const videos = new Map();
const MOST_VIDEOS = 2000;

/** What is known of a video; asked for once. */
export function getVideo(id, signal) {
  if (!videos.has(id)) {
    return ask(`/video?${query({ id })}`, { signal }).then((video) => noteVideo(video));
  }
  return Promise.resolve(videos.get(id));
}

/** Keeps what an answer said of a video. */
export function noteVideo(video) {
  if (videos.size >= MOST_VIDEOS) videos.delete(videos.keys().next().value);
  videos.set(video.id, video);
  return video;
}

/** The address of a video's picture, and the path it is asked for by where a key is needed. */
export const picturePath = (id, n) => `/picture?${query({ id, n })}`;
export const pictureAddress = (id, n) => `${BASE}${picturePath(id, n)}`;
