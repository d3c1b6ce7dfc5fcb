// Words of the step metadata, as src/engine/plan/stepMeta.ts lays it out (a test holds the two together).
// Bind it as `var<storage, read> step_meta: array<u32>`; first words of sections come through params.

const COUNT_TOKENS = 0u;
const COUNT_LOGIT_ROWS = 1u;

const RANGE_TOKEN_START = 0u;
const RANGE_TOKEN_END = 1u;
const RANGE_ROW_START = 2u;
const RANGE_ROW_END = 3u;
const RANGE_WORDS = 4u;

const ATTENTION_COUNT_ITEMS16 = 0u;
const ATTENTION_COUNT_ITEMS128 = 1u;
const ATTENTION_COUNT_MERGE_ROWS = 2u;
const ATTENTION_COUNT_CHUNK16 = 3u;
const ATTENTION_COUNT_CHUNK128 = 4u;
const ATTENTION_COUNT_WORDS = 5u;

const ITEM_QO_START = 0u;
const ITEM_PAGE_START = 1u;
const ITEM_PARTIAL_START = 2u;
const ITEM_Q_LEN = 3u;
const ITEM_KV_LEN = 4u;
const ITEM_ROW_START = 5u;
const ITEM_KV_START = 6u;
const ITEM_KV_END = 7u;
const ITEM_KV_HEAD = 8u;
const ITEM_CHUNK_INDEX = 9u;
const ITEM_CHUNK_COUNT = 10u;
const ITEM_PAD = 11u;
const ITEM_WORDS = 12u;
const PARTIAL_NONE = 0xffffffffu;

const SAMPLE_TEMPERATURE = 0u;
const SAMPLE_TOP_K = 1u;
const SAMPLE_TOP_P = 2u;
const SAMPLE_MIN_P = 3u;
const SAMPLE_PRESENCE_PENALTY = 4u;
const SAMPLE_FREQUENCY_PENALTY = 5u;
const SAMPLE_REPETITION_PENALTY = 6u;
const SAMPLE_SEED_LOW = 7u;
const SAMPLE_SEED_HIGH = 8u;
const SAMPLE_COUNTER = 9u;
const SAMPLE_TOP_LOGPROBS = 10u;
const SAMPLE_ADJUST_START = 11u;
const SAMPLE_ADJUST_END = 12u;
const SAMPLE_FLAGS = 13u;
const SAMPLE_WORDS = 16u;
const LOGPROBS_OFF = 0xffffffffu;

const ADJUST_TOKEN = 0u;
const ADJUST_OUTPUT_COUNT = 1u;
const ADJUST_IN_PROMPT = 2u;
const ADJUST_BIAS = 3u;
const ADJUST_WORDS = 4u;

const SAMPLED_TOKEN = 0u;
const SAMPLED_LOGPROB = 1u;
const SAMPLED_RANK = 2u;
const SAMPLED_TOP_COUNT = 3u;
const SAMPLED_TOP_TOKENS = 4u;
const SAMPLED_TOP_LOGPROBS = 24u;
const SAMPLED_WORDS = 44u;
const MAX_TOP_LOGPROBS = 20u;
const FROM_SAMPLED = 0x80000000u;
