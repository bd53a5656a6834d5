"""Made by tools/engine_upgrade.py out of xllamacpp-2026.10.11549.tar.gz; run it again instead of editing this file."""

# ruff: noqa: E501
VERSION = "2026.10.11549"
ARCHIVE_SHA256 = "c17ee1163006f70726abb9f72137830818f3d8cb60bfc34cb232d08428eaa22b"
DECLARATIONS = """
enum ggml_type
{
  GGML_TYPE_F32 = 0,
  GGML_TYPE_F16 = 1,
  GGML_TYPE_Q4_0 = 2,
  GGML_TYPE_Q4_1 = 3,
  GGML_TYPE_Q5_0 = 6,
  GGML_TYPE_Q5_1 = 7,
  GGML_TYPE_Q8_0 = 8,
  GGML_TYPE_Q8_1 = 9,
  GGML_TYPE_Q2_K = 10,
  GGML_TYPE_Q3_K = 11,
  GGML_TYPE_Q4_K = 12,
  GGML_TYPE_Q5_K = 13,
  GGML_TYPE_Q6_K = 14,
  GGML_TYPE_Q8_K = 15,
  GGML_TYPE_IQ2_XXS = 16,
  GGML_TYPE_IQ2_XS = 17,
  GGML_TYPE_IQ3_XXS = 18,
  GGML_TYPE_IQ1_S = 19,
  GGML_TYPE_IQ4_NL = 20,
  GGML_TYPE_IQ3_S = 21,
  GGML_TYPE_IQ2_S = 22,
  GGML_TYPE_IQ4_XS = 23,
  GGML_TYPE_I8 = 24,
  GGML_TYPE_I16 = 25,
  GGML_TYPE_I32 = 26,
  GGML_TYPE_I64 = 27,
  GGML_TYPE_F64 = 28,
  GGML_TYPE_IQ1_M = 29,
  GGML_TYPE_BF16 = 30,
  GGML_TYPE_TQ1_0 = 34,
  GGML_TYPE_TQ2_0 = 35,
  GGML_TYPE_MXFP4 = 39,
  GGML_TYPE_NVFP4 = 40,
  GGML_TYPE_Q1_0 = 41,
  GGML_TYPE_Q2_0 = 42,
  GGML_TYPE_COUNT = 43
};
struct ggml_backend_buffer;
enum ggml_op
{
  GGML_OP_NONE = 0,
  GGML_OP_DUP,
  GGML_OP_ADD,
  GGML_OP_ADD_ID,
  GGML_OP_ADD1,
  GGML_OP_ACC,
  GGML_OP_SUB,
  GGML_OP_MUL,
  GGML_OP_DIV,
  GGML_OP_SQR,
  GGML_OP_SQRT,
  GGML_OP_LOG,
  GGML_OP_SIN,
  GGML_OP_COS,
  GGML_OP_SUM,
  GGML_OP_SUM_ROWS,
  GGML_OP_CUMSUM,
  GGML_OP_MEAN,
  GGML_OP_ARGMAX,
  GGML_OP_COUNT_EQUAL,
  GGML_OP_REPEAT,
  GGML_OP_REPEAT_BACK,
  GGML_OP_CONCAT,
  GGML_OP_SILU_BACK,
  GGML_OP_NORM,
  GGML_OP_RMS_NORM,
  GGML_OP_RMS_NORM_BACK,
  GGML_OP_GROUP_NORM,
  GGML_OP_L2_NORM,
  GGML_OP_MUL_MAT,
  GGML_OP_MUL_MAT_ID,
  GGML_OP_OUT_PROD,
  GGML_OP_SCALE,
  GGML_OP_SET,
  GGML_OP_CPY,
  GGML_OP_CONT,
  GGML_OP_RESHAPE,
  GGML_OP_VIEW,
  GGML_OP_PERMUTE,
  GGML_OP_TRANSPOSE,
  GGML_OP_GET_ROWS,
  GGML_OP_GET_ROWS_BACK,
  GGML_OP_SET_ROWS,
  GGML_OP_DIAG,
  GGML_OP_DIAG_MASK_INF,
  GGML_OP_DIAG_MASK_ZERO,
  GGML_OP_SOFT_MAX,
  GGML_OP_SOFT_MAX_BACK,
  GGML_OP_ROPE,
  GGML_OP_ROPE_BACK,
  GGML_OP_CLAMP,
  GGML_OP_CONV_TRANSPOSE_1D,
  GGML_OP_IM2COL,
  GGML_OP_IM2COL_BACK,
  GGML_OP_IM2COL_3D,
  GGML_OP_COL2IM_1D,
  GGML_OP_CONV_2D,
  GGML_OP_CONV_3D,
  GGML_OP_CONV_2D_DW,
  GGML_OP_CONV_TRANSPOSE_2D,
  GGML_OP_POOL_1D,
  GGML_OP_POOL_2D,
  GGML_OP_POOL_2D_BACK,
  GGML_OP_UPSCALE,
  GGML_OP_PAD,
  GGML_OP_PAD_REFLECT_1D,
  GGML_OP_ROLL,
  GGML_OP_ARANGE,
  GGML_OP_TIMESTEP_EMBEDDING,
  GGML_OP_ARGSORT,
  GGML_OP_TOP_K,
  GGML_OP_LEAKY_RELU,
  GGML_OP_TRI,
  GGML_OP_FILL,
  GGML_OP_FLASH_ATTN_EXT,
  GGML_OP_FLASH_ATTN_BACK,
  GGML_OP_SSM_CONV,
  GGML_OP_SSM_SCAN,
  GGML_OP_WIN_PART,
  GGML_OP_WIN_UNPART,
  GGML_OP_GET_REL_POS,
  GGML_OP_ADD_REL_POS,
  GGML_OP_RWKV_WKV6,
  GGML_OP_GATED_LINEAR_ATTN,
  GGML_OP_RWKV_WKV7,
  GGML_OP_SOLVE_TRI,
  GGML_OP_GATED_DELTA_NET,
  GGML_OP_LIGHTNING_INDEXER,
  GGML_OP_DSV4_HC_COMB,
  GGML_OP_DSV4_HC_PRE,
  GGML_OP_DSV4_HC_POST,
  GGML_OP_UNARY,
  GGML_OP_MAP_CUSTOM1,
  GGML_OP_MAP_CUSTOM2,
  GGML_OP_MAP_CUSTOM3,
  GGML_OP_CUSTOM,
  GGML_OP_CROSS_ENTROPY_LOSS,
  GGML_OP_CROSS_ENTROPY_LOSS_BACK,
  GGML_OP_OPT_STEP_ADAMW,
  GGML_OP_OPT_STEP_SGD,
  GGML_OP_GLU,
  GGML_OP_COUNT
};
struct ggml_tensor;
struct ggml_tensor
{
  enum ggml_type type;
  struct ggml_backend_buffer *buffer;
  int64_t ne[4];
  size_t nb[4];
  enum ggml_op op;
  int32_t op_params[16];
  int32_t flags;
  struct ggml_tensor *src[10];
  struct ggml_tensor *view_src;
  size_t view_offs;
  void *data;
  char name[64];
  void *extra;
  char padding[8];
};
typedef void (*ggml_to_float_t)(const void * restrict x, float * restrict y, int64_t k);
typedef void (*ggml_from_float_t)(const float * restrict x, void * restrict y, int64_t k);
struct ggml_type_traits
{
  const char *type_name;
  int64_t blck_size;
  int64_t blck_size_interleave;
  size_t type_size;
  bool is_quantized;
  ggml_to_float_t to_float;
  ggml_from_float_t from_float_ref;
};
enum ggml_log_level
{
  GGML_LOG_LEVEL_NONE = 0,
  GGML_LOG_LEVEL_DEBUG = 1,
  GGML_LOG_LEVEL_INFO = 2,
  GGML_LOG_LEVEL_WARN = 3,
  GGML_LOG_LEVEL_ERROR = 4,
  GGML_LOG_LEVEL_CONT = 5
};
typedef void (*ggml_log_callback)(enum ggml_log_level level, const char *text, void *user_data);
void llama_log_set(ggml_log_callback log_callback, void *user_data);
void llama_backend_init(void);
struct ggml_backend_device;
typedef struct ggml_backend_device *ggml_backend_dev_t;
struct llama_model_tensor_buft_override;
enum llama_split_mode
{
  LLAMA_SPLIT_MODE_NONE = 0,
  LLAMA_SPLIT_MODE_LAYER = 1,
  LLAMA_SPLIT_MODE_ROW = 2,
  LLAMA_SPLIT_MODE_TENSOR = 3
};
enum llama_load_mode
{
  LLAMA_LOAD_MODE_AUTO = -1,
  LLAMA_LOAD_MODE_NONE = 0,
  LLAMA_LOAD_MODE_MMAP = 1,
  LLAMA_LOAD_MODE_MLOCK = 2,
  LLAMA_LOAD_MODE_MMAP_MLOCK = 3,
  LLAMA_LOAD_MODE_DIRECT_IO = 4
};
enum llama_lazy_mode
{
  LLAMA_LAZY_MODE_OFF = 0,
  LLAMA_LAZY_MODE_AUTO = 1,
  LLAMA_LAZY_MODE_ON = 2
};
typedef bool (*llama_progress_callback)(float progress, void *user_data);
struct llama_model_kv_override;
struct llama_model_params
{
  ggml_backend_dev_t *devices;
  const struct llama_model_tensor_buft_override *tensor_buft_overrides;
  int32_t n_gpu_layers;
  enum llama_split_mode split_mode;
  enum llama_load_mode load_mode;
  enum llama_lazy_mode lazy_mode;
  int32_t main_gpu;
  const float *tensor_split;
  llama_progress_callback progress_callback;
  void *progress_callback_user_data;
  const struct llama_model_kv_override *kv_overrides;
  bool vocab_only;
  bool check_tensors;
  bool use_extra_bufts;
  bool no_host;
  bool no_alloc;
  bool load_mtp;
};
struct llama_model_params llama_model_default_params(void);
enum llama_context_type
{
  LLAMA_CONTEXT_TYPE_DEFAULT = 0,
  LLAMA_CONTEXT_TYPE_MTP = 1
};
enum llama_rope_scaling_type
{
  LLAMA_ROPE_SCALING_TYPE_UNSPECIFIED = -1,
  LLAMA_ROPE_SCALING_TYPE_NONE = 0,
  LLAMA_ROPE_SCALING_TYPE_LINEAR = 1,
  LLAMA_ROPE_SCALING_TYPE_YARN = 2,
  LLAMA_ROPE_SCALING_TYPE_LONGROPE = 3,
  LLAMA_ROPE_SCALING_TYPE_MAX_VALUE = LLAMA_ROPE_SCALING_TYPE_LONGROPE
};
enum llama_pooling_type
{
  LLAMA_POOLING_TYPE_UNSPECIFIED = -1,
  LLAMA_POOLING_TYPE_NONE = 0,
  LLAMA_POOLING_TYPE_MEAN = 1,
  LLAMA_POOLING_TYPE_CLS = 2,
  LLAMA_POOLING_TYPE_LAST = 3,
  LLAMA_POOLING_TYPE_RANK = 4
};
enum llama_attention_type
{
  LLAMA_ATTENTION_TYPE_UNSPECIFIED = -1,
  LLAMA_ATTENTION_TYPE_CAUSAL = 0,
  LLAMA_ATTENTION_TYPE_NON_CAUSAL = 1
};
enum llama_flash_attn_type
{
  LLAMA_FLASH_ATTN_TYPE_AUTO = -1,
  LLAMA_FLASH_ATTN_TYPE_DISABLED = 0,
  LLAMA_FLASH_ATTN_TYPE_ENABLED = 1
};
typedef bool (*ggml_backend_sched_eval_callback)(struct ggml_tensor *t, bool ask, void *user_data);
typedef bool (*ggml_abort_callback)(void *data);
struct llama_sampler_seq_config;
struct llama_context;
struct llama_context_params
{
  uint32_t n_ctx;
  uint32_t n_batch;
  uint32_t n_ubatch;
  uint32_t n_seq_max;
  uint32_t n_rs_seq;
  uint32_t n_outputs_max;
  uint32_t n_outputs_max_per_seq;
  int32_t n_threads;
  int32_t n_threads_batch;
  enum llama_context_type ctx_type;
  enum llama_rope_scaling_type rope_scaling_type;
  enum llama_pooling_type pooling_type;
  enum llama_attention_type attention_type;
  enum llama_flash_attn_type flash_attn_type;
  float rope_freq_base;
  float rope_freq_scale;
  float yarn_ext_factor;
  float yarn_attn_factor;
  float yarn_beta_fast;
  float yarn_beta_slow;
  uint32_t yarn_orig_ctx;
  float defrag_thold;
  ggml_backend_sched_eval_callback cb_eval;
  void *cb_eval_user_data;
  enum ggml_type type_k;
  enum ggml_type type_v;
  size_t moe_cache_size;
  ggml_abort_callback abort_callback;
  void *abort_callback_data;
  bool embeddings;
  bool offload_kqv;
  bool no_perf;
  bool op_offload;
  bool swa_full;
  bool kv_unified;
  struct llama_sampler_seq_config *samplers;
  size_t n_samplers;
  struct llama_context *ctx_other;
};
struct llama_context_params llama_context_default_params(void);
struct llama_model;
struct llama_model *llama_model_load_from_file(const char *path_model, struct llama_model_params params);
int32_t llama_model_n_ctx_train(const struct llama_model *model);
bool llama_model_is_recurrent(const struct llama_model *model);
bool llama_model_is_hybrid(const struct llama_model *model);
struct llama_vocab;
const struct llama_vocab *llama_model_get_vocab(const struct llama_model *model);
int32_t llama_vocab_n_tokens(const struct llama_vocab *vocab);
typedef int32_t llama_token;
llama_token llama_vocab_bos(const struct llama_vocab *vocab);
llama_token llama_vocab_eos(const struct llama_vocab *vocab);
bool llama_vocab_get_add_bos(const struct llama_vocab *vocab);
int32_t llama_tokenize(const struct llama_vocab *vocab, const char *text, int32_t text_len, llama_token *tokens, int32_t n_tokens_max, bool add_special, bool parse_special);
int32_t llama_token_to_piece(const struct llama_vocab *vocab, llama_token token, char *buf, int32_t length, int32_t lstrip, bool special);
struct llama_adapter_lora;
struct llama_adapter_lora *llama_adapter_lora_init(struct llama_model *model, const char *path_lora);
struct llama_context *llama_init_from_model(struct llama_model *model, struct llama_context_params params);
void llama_free(struct llama_context *ctx);
bool llama_get_causal_attn(const struct llama_context *ctx);
int32_t llama_set_adapters_lora(struct llama_context *ctx, struct llama_adapter_lora **adapters, size_t n_adapters, float *scales);
struct llama_memory_i;
typedef struct llama_memory_i *llama_memory_t;
llama_memory_t llama_get_memory(const struct llama_context *ctx);
void llama_memory_clear(llama_memory_t mem, bool data);
typedef int32_t llama_seq_id;
typedef int32_t llama_pos;
void llama_memory_seq_cp(llama_memory_t mem, llama_seq_id seq_id_src, llama_seq_id seq_id_dst, llama_pos p0, llama_pos p1);
bool llama_memory_seq_rm(llama_memory_t mem, llama_seq_id seq_id, llama_pos p0, llama_pos p1);
struct llama_batch
{
  int32_t n_tokens;
  llama_token *token;
  float *embd;
  llama_pos *pos;
  int32_t *n_seq_id;
  llama_seq_id **seq_id;
  int8_t *logits;
};
struct llama_batch llama_batch_init(int32_t n_tokens, int32_t embd, int32_t n_seq_max);
void llama_batch_free(struct llama_batch batch);
int32_t llama_decode(struct llama_context *ctx, struct llama_batch batch);
float *llama_get_logits(struct llama_context *ctx);
void ggml_backend_tensor_get(const struct ggml_tensor *tensor, void *data, size_t offset, size_t size);
void ggml_backend_tensor_set(struct ggml_tensor *tensor, const void *data, size_t offset, size_t size);
struct ggml_type_traits;
const struct ggml_type_traits *ggml_get_type_traits(enum ggml_type type);
size_t ggml_quantize_chunk(enum ggml_type type, const float *src, void *dst, int64_t start, int64_t nrows, int64_t n_per_row, const float *imatrix);
bool ggml_validate_row_data(enum ggml_type type, const void *data, size_t nbytes);
"""
# None stands for a null pointer.
DEFAULTS: dict[str, dict[str, float | None]] = {
    "llama_model_params": {
        "devices": None,
        "tensor_buft_overrides": None,
        "n_gpu_layers": -1,
        "split_mode": 1,
        "load_mode": -1,
        "lazy_mode": 1,
        "main_gpu": 0,
        "tensor_split": None,
        "progress_callback": None,
        "progress_callback_user_data": None,
        "kv_overrides": None,
        "vocab_only": False,
        "check_tensors": False,
        "use_extra_bufts": True,
        "no_host": False,
        "no_alloc": False,
        "load_mtp": False,
    },
    "llama_context_params": {
        "n_ctx": 512,
        "n_batch": 2048,
        "n_ubatch": 512,
        "n_seq_max": 1,
        "n_rs_seq": 0,
        "n_outputs_max": 0,
        "n_outputs_max_per_seq": 1,
        "n_threads": 4,
        "n_threads_batch": 4,
        "ctx_type": 0,
        "rope_scaling_type": -1,
        "pooling_type": -1,
        "attention_type": -1,
        "flash_attn_type": -1,
        "rope_freq_base": 0.0,
        "rope_freq_scale": 0.0,
        "yarn_ext_factor": -1.0,
        "yarn_attn_factor": -1.0,
        "yarn_beta_fast": -1.0,
        "yarn_beta_slow": -1.0,
        "yarn_orig_ctx": 0,
        "defrag_thold": -1.0,
        "cb_eval": None,
        "cb_eval_user_data": None,
        "type_k": 1,
        "type_v": 1,
        "moe_cache_size": 0,
        "abort_callback": None,
        "abort_callback_data": None,
        "embeddings": False,
        "offload_kqv": True,
        "no_perf": True,
        "op_offload": True,
        "swa_full": True,
        "kv_unified": False,
        "samplers": None,
        "n_samplers": 0,
        "ctx_other": None,
    },
}
