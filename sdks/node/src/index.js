// bungee: invocations of a deployed handler on your laptop, while you are attached.

"use strict";

const { createLive } = require("./live");
const { LiveSessionLost } = require("./fault");

const live = createLive();

module.exports = { live, createLive, LiveSessionLost };
