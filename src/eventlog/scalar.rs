//! The number that a value of a summary holds, in whichever form its writer chose.

use super::proto::summary::Value;
use super::proto::summary::value::Value as Wire;
use super::proto::{DataType, TensorProto};

/// The number in a `simple_value`, or in a tensor of numbers with one element, as the loader in Python reads it. (The data
/// server drops all tensors but those of rank 0 and type `DT_FLOAT`.)
pub fn number(value: &Value) -> Option<f64> {
    match value.value.as_ref()? {
        Wire::SimpleValue(number) => Some(f64::from(*number)),
        Wire::Tensor(tensor) => element(tensor),
        _ => None,
    }
}

fn element(tensor: &TensorProto) -> Option<f64> {
    let has_one_element = tensor.tensor_shape.as_ref().is_none_or(|shape| shape.dim.iter().all(|dim| dim.size == 1));
    if !has_one_element {
        return None;
    }
    let content = tensor.tensor_content.as_slice();
    let half = |convert: fn(u16) -> f64| {
        let bits = tensor.half_val.first().and_then(|&bits| u16::try_from(bits).ok());
        bits.or_else(|| content.try_into().ok().map(u16::from_le_bytes)).map(convert)
    };
    match tensor.dtype() {
        DataType::DtFloat => {
            let number = tensor.float_val.first().copied();
            number.or_else(|| content.try_into().ok().map(f32::from_le_bytes)).map(f64::from)
        }
        DataType::DtDouble => {
            tensor.double_val.first().copied().or_else(|| content.try_into().ok().map(f64::from_le_bytes))
        }
        DataType::DtInt32 => {
            let number = tensor.int_val.first().copied();
            number.or_else(|| content.try_into().ok().map(i32::from_le_bytes)).map(f64::from)
        }
        DataType::DtUint8 => {
            let number = tensor.int_val.first().map(|&number| f64::from(number));
            number.or_else(|| content.try_into().ok().map(|[byte]: [u8; 1]| f64::from(byte)))
        }
        DataType::DtInt64 => {
            let number = tensor.int64_val.first().copied();
            number.or_else(|| content.try_into().ok().map(i64::from_le_bytes)).map(|number| number as f64)
        }
        DataType::DtUint32 => {
            let number = tensor.uint32_val.first().copied();
            number.or_else(|| content.try_into().ok().map(u32::from_le_bytes)).map(f64::from)
        }
        DataType::DtUint64 => {
            let number = tensor.uint64_val.first().copied();
            number.or_else(|| content.try_into().ok().map(u64::from_le_bytes)).map(|number| number as f64)
        }
        DataType::DtBool => {
            let truth = tensor.bool_val.first().copied();
            truth.or_else(|| content.first().map(|&byte| byte != 0)).map(|truth| f64::from(u8::from(truth)))
        }
        DataType::DtHalf => half(of_half),
        DataType::DtBfloat16 => half(|bits| f64::from(f32::from_bits(u32::from(bits) << 16))),
        DataType::DtInvalid | DataType::DtString => None,
    }
}

/// IEEE 754 binary16: a sign, five bits of exponent, ten of the fraction.
fn of_half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * (-24f64).exp2(),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1024.0 + fraction) * f64::from(exponent - 25).exp2(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventlog::proto::TensorShapeProto;
    use crate::eventlog::proto::tensor_shape_proto::Dim;

    fn held(tensor: TensorProto) -> Option<f64> {
        number(&Value { value: Some(Wire::Tensor(tensor)), ..Value::default() })
    }

    fn content(dtype: DataType, bytes: &[u8]) -> TensorProto {
        TensorProto { dtype: dtype.into(), tensor_content: bytes.to_vec(), ..TensorProto::default() }
    }

    #[test]
    fn numbers_of_every_type_and_form() {
        let typed = |dtype: DataType| TensorProto { dtype: dtype.into(), ..TensorProto::default() };
        for (tensor, want) in [
            (TensorProto { float_val: vec![0.1], ..typed(DataType::DtFloat) }, f64::from(0.1f32)),
            (content(DataType::DtFloat, &0.1f32.to_le_bytes()), f64::from(0.1f32)),
            (TensorProto { double_val: vec![0.1], ..typed(DataType::DtDouble) }, 0.1),
            (content(DataType::DtDouble, &0.1f64.to_le_bytes()), 0.1),
            (TensorProto { int_val: vec![-7], ..typed(DataType::DtInt32) }, -7.0),
            (content(DataType::DtInt32, &(-7i32).to_le_bytes()), -7.0),
            (content(DataType::DtUint8, &[200]), 200.0),
            (TensorProto { int64_val: vec![1 << 40], ..typed(DataType::DtInt64) }, (1u64 << 40) as f64),
            (content(DataType::DtInt64, &(-1i64).to_le_bytes()), -1.0),
            (content(DataType::DtUint32, &u32::MAX.to_le_bytes()), 4_294_967_295.0),
            (content(DataType::DtUint64, &7u64.to_le_bytes()), 7.0),
            (TensorProto { bool_val: vec![true], ..typed(DataType::DtBool) }, 1.0),
            (content(DataType::DtBool, &[0]), 0.0),
            (TensorProto { half_val: vec![0x3555], ..typed(DataType::DtHalf) }, 0.333_251_953_125),
            (content(DataType::DtHalf, &0xc000u16.to_le_bytes()), -2.0),
            (content(DataType::DtHalf, &0x0001u16.to_le_bytes()), 5.960_464_477_539_063e-8),
            (content(DataType::DtHalf, &0xfc00u16.to_le_bytes()), f64::NEG_INFINITY),
            (content(DataType::DtBfloat16, &0x3fc0u16.to_le_bytes()), 1.5),
        ] {
            assert_eq!(held(tensor.clone()), Some(want), "{tensor:?}");
        }
        assert!(held(content(DataType::DtHalf, &0x7e00u16.to_le_bytes())).is_some_and(f64::is_nan));
        assert_eq!(number(&Value { value: Some(Wire::SimpleValue(0.5)), ..Value::default() }), Some(0.5));
    }

    #[test]
    fn what_is_not_one_number_is_none() {
        let shape = |sizes: &[i64]| {
            let dim = sizes.iter().map(|&size| Dim { size, ..Dim::default() }).collect();
            Some(TensorShapeProto { dim, ..TensorShapeProto::default() })
        };
        let one = content(DataType::DtFloat, &1f32.to_le_bytes());
        assert_eq!(held(TensorProto { tensor_shape: shape(&[1, 1]), ..one.clone() }), Some(1.0));
        for tensor in [
            TensorProto { tensor_shape: shape(&[2]), ..one.clone() },
            TensorProto { tensor_shape: shape(&[0]), ..one },
            content(DataType::DtFloat, &[0; 8]),
            content(DataType::DtString, b"1"),
            content(DataType::DtInvalid, &[0; 4]),
            TensorProto { half_val: vec![-1], ..content(DataType::DtHalf, &[]) },
        ] {
            assert_eq!(held(tensor.clone()), None, "{tensor:?}");
        }
        assert_eq!(number(&Value::default()), None);
    }
}
